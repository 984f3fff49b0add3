"""Migrations as one script, for those who apply by hand.

It may be run on a schema of any version, and again: each step looks first whether it is done. Each
is one statement, so one transaction, in psql and elsewhere, and stops psql with ON_ERROR_STOP where
it fails. Indexes are built between them, in no transaction: see `synk.storage.ahead`.
"""

from __future__ import annotations

from typing import Final

from synk.storage import ahead, migrate, roles, sql
from synk.storage.made import made_on_the_way, named
from synk.storage.patience import LOCK_ID

_HEAD: Final = """\
-- synk, schema {schema}: brings any version to {latest}. Run it with
--     psql --set ON_ERROR_STOP=on --file this.sql
-- It may be run again: what is done is left out.

DO $synk_step$
BEGIN
    PERFORM set_config(s.name, '0', false) FROM pg_settings AS s
    WHERE s.name IN ('statement_timeout', 'lock_timeout', 'transaction_timeout',
                     'idle_in_transaction_session_timeout', 'row_security');
    IF to_regclass('{quoted}.migration') IS NULL AND EXISTS (
        SELECT FROM pg_class AS c WHERE c.relnamespace = to_regnamespace('{quoted}')
        AND c.relname IN ({relations})
        UNION ALL SELECT FROM pg_type AS t WHERE t.typnamespace = to_regnamespace('{quoted}')
        AND t.typname IN ({types})
    ) THEN
        RAISE EXCEPTION 'schema {schema} has tables or types with names of synk''s, not made by '
            'it: give synk a schema of its own; `synk migrate` names them, and adopts the table '
            'of the Go package';
    END IF;
END $synk_step$;
"""

_BASE: Final = """
-- Where migrations are noted
{text}
"""

_STEP: Final = """
-- {name}
DO $synk_step$
BEGIN
    PERFORM pg_advisory_xact_lock({lock_id});
    IF (SELECT {is_done} FROM {quoted}.migration AS m) THEN
        RETURN;
    END IF;
    -- Nobody is kept waiting behind a lock that is not to be had.
    PERFORM set_config('lock_timeout', '1s', true);
    FOR trial IN 1 .. 1800 LOOP
        BEGIN
            EXECUTE $synk_body$
{text}
$synk_body$;
            RETURN;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            RAISE NOTICE '{name}: waits for a lock (see pg_locks), and tries again';
            PERFORM pg_sleep(1);
        END;
    END LOOP;
    RAISE EXCEPTION '{name}: its locks were not to be had';
END $synk_step$;
"""

_INDEX: Final = """
-- While everybody goes on; in no transaction.
SET client_min_messages = warning;
{text};
RESET client_min_messages;
"""

_RIGHT: Final = """
DO $synk_step$
BEGIN
    IF {only} AND NOT EXISTS ({foreign}) AND ({holds}) IS NOT TRUE THEN
        EXECUTE $synk_body${text}$synk_body$;
    END IF;
EXCEPTION WHEN insufficient_privilege OR undefined_object THEN
    RAISE WARNING 'left undone, synk works without: % (%)', $synk_body${text}$synk_body$, SQLERRM;
END $synk_step$;
"""


def script(schema: str = sql.DEFAULT_SCHEMA, *, with_roles: bool = True) -> str:
    """Returns the script."""
    quoted = f'"{schema}"'
    base, *numbered = sql.migrations(schema)
    things = made_on_the_way(schema, -1, migrate.LATEST)
    parts = [
        _HEAD.format(
            schema=schema,
            quoted=quoted,
            latest=migrate.LATEST,
            relations=_texts(named(things, "TABLE", "TYPE", "INDEX")),
            types=_texts(named(things, "TYPE", "TABLE")),
        ),
        _BASE.format(text=base[2].rstrip()),
    ]
    is_former = sql.in_schema(sql.IS_FORMER, schema)
    former = "upgrade, for tables that synk had before its first schema"
    parts.append(
        _step(schema, former, f"NOT ({is_former})", migrate.all_from(schema, "upgrade_former"))
    )
    for version, name, text in numbered:
        is_done = f"max(m.version) >= {version}"
        first, rest = ahead.parts(text)
        for statement in first:
            if ahead.is_index(statement):
                parts.append(_INDEX.format(text=statement))
            else:
                parts.append(_step(schema, f"ahead of {version:03} {name}", is_done, statement))
        whole = migrate.whole(schema, version, name, rest)
        parts.append(_step(schema, f"{version:03} {name}", is_done, whole))
    if with_roles:
        parts += _rights(schema)
    return "".join(parts)


def _step(schema: str, name: str, is_done: str, text: str) -> str:
    return _STEP.format(
        name=name, is_done=is_done, text=text.rstrip(), lock_id=LOCK_ID, quoted=f'"{schema}"'
    )


def _rights(schema: str) -> list[str]:
    own, shared = (
        roles.Installation(
            schema=schema,
            version=migrate.LATEST,
            previous=roles.WHO_RUNS,
            is_own_schema=is_own,
        )
        for is_own in (True, False)
    )
    # Where synk made the schema, row 0 says so.
    is_own = f"EXISTS (SELECT FROM {own.object('migration')} AS m WHERE m.version = 0)"
    parts = ["\n-- The roles, and what they may do\n"]
    for here, there in zip(roles.steps(own), roles.steps(shared), strict=True):
        variants = [(here, "true")] if here == there else [(here, is_own), (there, f"NOT {is_own}")]
        parts += [
            _RIGHT.format(
                only=only,
                foreign=roles.foreign(own, sorted(step.roles)),
                holds=step.holds,
                text=step.text,
            )
            for step, only in variants
        ]
    return parts


def _texts(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
