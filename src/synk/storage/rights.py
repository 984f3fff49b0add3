"""Whose synk's objects are, and what each role may do with them: done as far as it is allowed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from synk.storage import roles, sql
from synk.storage.made import made_on_the_way
from synk.storage.patience import rows

if TYPE_CHECKING:
    from synk.storage.patience import Patient


def belong(schema: str, version: int) -> str:
    """Returns SQL that gives what that migration made to whom the rest belongs to.

    Functions that have their owner's rights reach the tables of that owner only; and they are for
    the table's triggers, for nobody to call.
    """
    # With the first comes what was made before it.
    new = made_on_the_way(schema, version - 1 if version > 1 else -1, version)
    listed = ", ".join(f"""('{kind}', '"{schema}".{name}')""" for kind, name in new)
    return f"""
DO $belong$
DECLARE
    owner regrole := (SELECT c.relowner FROM pg_class AS c
                      WHERE c.oid = '"{schema}".job'::regclass);
    each record;
BEGIN
    FOR each IN
        SELECT n.kind, n.name, p.prosecdef
        FROM (VALUES {listed or "(NULL, NULL)"}) AS n (kind, name)
        LEFT JOIN pg_class AS c
            ON c.oid = CASE n.kind WHEN 'TABLE' THEN to_regclass(n.name) END
        LEFT JOIN pg_type AS t ON t.oid = CASE n.kind WHEN 'TYPE' THEN to_regtype(n.name) END
        LEFT JOIN pg_proc AS p
            ON p.oid = CASE n.kind WHEN 'FUNCTION' THEN to_regprocedure(n.name) END
        WHERE coalesce(c.relowner, t.typowner, p.proowner) <> owner OR p.prosecdef
    LOOP
        IF each.prosecdef THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', each.name);
        END IF;
        EXECUTE format('ALTER %s %s OWNER TO %s', each.kind, each.name, owner);
    END LOOP;
END $belong$
"""  # noqa: S608 - names of this package's files


def give_rights(patient: Patient, version: int) -> None:
    """Does the steps that are left; tells of those that may not be done, with their SQL."""
    connection, schema, tell = patient.connection, patient.schema, patient.tell
    installed = _installation(connection, schema, version)
    foreign = [name for (name,) in rows(connection, roles.foreign(installed))]
    for name in foreign:
        tell(
            f"role {name} was not made by synk and is left alone; if it is meant for synk: "
            f"COMMENT ON ROLE \"{name}\" IS '{roles.MARK}...'"
        )
    left: list[str] = []
    reasons: list[str] = []
    for step in roles.steps(installed, foreign):
        if _holds(connection, step):
            continue
        try:
            patient.run(partial(connection.execute, step.text.encode()))
        except psycopg.Error as error:
            # Or another database of this server made the role at the same time.
            if not _holds(connection, step):
                left.append(step.text)
                reasons.append(str(error.diag.message_primary))
        else:
            if not _holds(connection, step):
                left.append(step.text)  # the server warned, and did nothing
    if left:
        reason = f": {reasons[0]}" if reasons else ""
        script = "\n".join(_alone(text) for text in left)
        tell(
            f"not all could be done for the roles of schema {schema}{reason}. synk works without: "
            "migrate with --no-roles (roles=False), or let a superuser run this in database "
            f"{connection.info.dbname}:\n{script}"
        )


def _alone(text: str) -> str:
    return f"BEGIN; {text}; COMMIT;" if "; " in text else f"{text};"


def _installation(
    connection: psycopg.Connection[Any], schema: str, version: int
) -> roles.Installation:
    query = (
        "SELECT quote_ident(pg_get_userbyid(c.relowner)),"
        " EXISTS (SELECT FROM synk.migration AS m WHERE m.version = 0)"
        " FROM pg_class AS c WHERE c.oid = to_regclass('synk.job')"
    )
    ((previous, is_own),) = rows(connection, sql.in_schema(query, schema))
    return roles.Installation(
        schema=schema, version=version, previous=previous, is_own_schema=is_own
    )


def _holds(connection: psycopg.Connection[Any], step: roles.Step) -> bool:
    return rows(connection, f"SELECT {step.holds}")[0][0] is True
