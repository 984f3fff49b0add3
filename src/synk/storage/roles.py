"""The four roles, and what each may do: steps of which each is done by itself, where it may be.

Only what synk made is touched. A schema that was there before keeps its owner and everybody's
rights; synk's own roles may use it, no more. A role that has one of the names and is not synk's is
left alone. Nothing in synk needs the roles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synk.storage.made import made, named
from synk.storage.sql import check_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MARK: Final = "synk: "
"""How the comment on a role of synk's begins."""

WHO_RUNS: Final = "CURRENT_USER"

_ROLES: Final = {
    "owner": "owns its tables, and upgrades them",
    "supervisor": "runs jobs, and changes them",
    "producer": "inserts jobs, and reads none",
    "viewer": "reads, and changes nothing",
}

_INSERTED: Final = (
    *("queue", "kind", "args", "max_attempts", "state", "scheduled_at", "priority", "name"),
    *("depends_on", "idempotency_key", "meta", "tags", "start_before", "keep", "limit_key"),
    *("unique_scope", "unique_key"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to be done, in a transaction of its own."""

    text: str
    """SQL, without a semicolon at its end."""
    holds: str
    """SQL of a boolean: there is nothing left to do. NULL stands for false."""
    roles: frozenset[str]
    """Whom it is about, without the schema's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """Tables of synk in a schema, and whose they are: what the steps are for."""

    schema: str
    version: int
    previous: str
    """Who owns the table of jobs now, as SQL: a quoted name, or `WHO_RUNS`."""
    is_own_schema: bool
    """Whether synk made the schema."""

    def __post_init__(self) -> None:
        check_schema(self.schema)

    def role(self, name: str) -> str:
        """Returns a role's quoted name."""
        return f'"{self.schema}_{name}"'

    def object(self, name: str) -> str:
        """Returns an object's full name."""
        return f'"{self.schema}".{name}'


def foreign(installed: Installation, among: Iterable[str] = tuple(_ROLES)) -> str:
    """Returns SQL for the names of roles that have a name of synk's and are not synk's.

    They are synk's if their comment says so.
    """
    names = ", ".join(f"'{installed.schema}_{name}'" for name in among)
    return (
        "SELECT r.rolname FROM pg_roles AS r"  # noqa: S608 - the schema was checked
        f" WHERE r.rolname IN ({names})"
        f" AND coalesce(shobj_description(r.oid, 'pg_authid'), '') NOT LIKE '{MARK}%' ORDER BY 1"
    )


def steps(installed: Installation, without: Sequence[str] = ()) -> list[Step]:
    """Returns what is to be done, in order, for the roles that are not in *without*."""
    tables = named(made(installed.schema, installed.version), "TABLE")
    left_alone = {name.removeprefix(f"{installed.schema}_") for name in without}
    found = [
        *(_make(installed, name) for name in _ROLES),
        *(_use(installed, name) for name in _ROLES),
        *(_grant(installed, "SELECT", "migration", name) for name in _ROLES if name != "owner"),
        _insert(installed),
        _call(
            installed,
            "unique_replace(text, text, jsonb, jsonb, timestamptz, smallint, text)",
            "producer",
        ),
        _member(installed, "supervisor", ("producer", "viewer")),
        *(
            _grant(installed, "SELECT", table, "viewer")
            for table in (
                "job",
                "client",
                "tie",
                "setting",
                "revision",
                "periodic",
                "permit",
                "rate",
            )
            if table in tables
        ),
        _grant(installed, "SELECT, UPDATE, DELETE", "job", "supervisor"),
        *(
            _grant(installed, "SELECT, INSERT, UPDATE, DELETE", table, "supervisor")
            for table in ("client", "stack_question", "setting", "periodic", "permit", "rate")
            if table in tables
        ),
        *(
            _grant(installed, "SELECT, UPDATE, DELETE", table, "supervisor")
            for table in ("unsettled", "watched")
        ),
        _give(installed),
    ]
    return [step for step in found if not step.roles & left_alone]


def _make(installed: Installation, name: str) -> Step:
    role = installed.role(name)
    return Step(
        text=f"CREATE ROLE {role} NOLOGIN; COMMENT ON ROLE {role} IS '{MARK}{_ROLES[name]}'",
        holds=f"to_regrole('{role}') IS NOT NULL",
        roles=frozenset({name}),
    )


def _granted(
    installed: Installation,
    name: str,
    what: str,
    asks: str,
    of: Iterable[str],
    about: Iterable[str] = (),
) -> Step:
    """Returns the step that grants *what* to a role, which has it if *asks* says so *of* each."""
    role = installed.role(name)
    return Step(
        text=f"GRANT {what} TO {role}",
        holds=" AND ".join(f"{asks}(to_regrole('{role}')::oid, {each})" for each in of),
        roles=frozenset({name, *about}),
    )


def _use(installed: Installation, name: str) -> Step:
    schema = installed.schema
    usage = f"'{schema}', 'USAGE'"
    return _granted(installed, name, f'USAGE ON SCHEMA "{schema}"', "has_schema_privilege", [usage])


def _grant(installed: Installation, rights: str, table: str, name: str) -> Step:
    target = installed.object(table)
    each = [f"'{target}', '{right}'" for right in rights.split(", ")]
    return _granted(installed, name, f"{rights} ON {target}", "has_table_privilege", each)


def _insert(installed: Installation) -> Step:
    target, key = installed.object("job"), "idempotency_key"
    rights = {"INSERT": _INSERTED, "SELECT": ("id", key, "unique_key"), "UPDATE": (key,)}
    each = [
        f"'{target}', '{column}', '{right}'"
        for right, columns in rights.items()
        for column in columns
    ]
    granted = ", ".join(f"{right} ({', '.join(columns)})" for right, columns in rights.items())
    what = f"{granted} ON {target}"
    return _granted(installed, "producer", what, "has_column_privilege", each)


def _call(installed: Installation, function: str, name: str) -> Step:
    target = installed.object(function)
    what = f"EXECUTE ON FUNCTION {target}"
    return _granted(installed, name, what, "has_function_privilege", [f"'{target}', 'EXECUTE'"])


def _member(installed: Installation, name: str, of: Sequence[str]) -> Step:
    groups = [installed.role(group) for group in of]
    each = [f"to_regrole('{group}')::oid, 'USAGE'" for group in groups]
    return _granted(installed, name, ", ".join(groups), "pg_has_role", each, of)


def _keeps(installed: Installation) -> str:
    """Returns SQL that fails if a member would not have the new owner's rights by itself."""
    job, owner = installed.object("job"), f"{installed.schema}_owner"
    inherits = f"pg_has_role(c.relowner, '{owner}', 'USAGE') FROM pg_class AS c"
    return (
        f"DO $keeps$ BEGIN IF NOT (SELECT {inherits} WHERE c.oid = '{job}'::regclass) THEN"
        " RAISE insufficient_privilege USING MESSAGE = 'the present owner inherits no rights';"
        " END IF; END $keeps$"
    )


def _give(installed: Installation) -> Step:
    """All at once: functions with their owner's rights reach the tables of the same owner only.

    Who owned them is a member of the new owner, and so keeps what they could do. A schema that
    synk did not make keeps its owner; the new owner of tables in it may create in it for as long
    as PostgreSQL asks for that.
    """
    owner, schema = installed.role("owner"), f'"{installed.schema}"'
    lines = [
        "SET LOCAL client_min_messages = warning",  # they may be a member already
        f"GRANT {owner} TO {installed.previous}",
        _keeps(installed),
    ]
    lines.append(
        f"ALTER SCHEMA {schema} OWNER TO {owner}"
        if installed.is_own_schema
        else f"GRANT CREATE ON SCHEMA {schema} TO {owner}"
    )
    lines += [
        f"ALTER {kind} {installed.object(name)} OWNER TO {owner}"
        for kind, name in made(installed.schema, installed.version)
        if kind != "INDEX"  # it is its table's
    ]
    if not installed.is_own_schema:
        lines.append(f"REVOKE CREATE ON SCHEMA {schema} FROM {owner}")
    # Of a script nobody knows who will run it: it gives away only what is theirs.
    mine = "c.relowner <> current_user::regrole" if installed.previous == WHO_RUNS else "false"
    return Step(
        text="; ".join(lines),
        holds=f"(SELECT c.relowner = to_regrole('{owner}') OR {mine} FROM pg_class AS c"  # noqa: S608 - as above
        f" WHERE c.oid = '{installed.object('job')}'::regclass)",
        roles=frozenset({"owner"}),
    )
