"""What is in a schema of synk's, to be compared."""

from __future__ import annotations

from typing import Final

import psycopg

CATALOG: Final = """
SELECT table_name, column_name, data_type, column_default, is_nullable
FROM information_schema.columns WHERE table_schema = 'synk' ORDER BY 1, 2;
SELECT relname, relpersistence, reloptions FROM pg_class
WHERE relnamespace = 'synk'::regnamespace AND relkind IN ('r', 'S') ORDER BY 1;
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'synk' ORDER BY 1;
SELECT tgname, pg_get_triggerdef(t.oid) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE NOT tgisinternal AND c.relnamespace = 'synk'::regnamespace ORDER BY 1;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'synk'::regnamespace ORDER BY 1, 2;
SELECT proname, pg_get_functiondef(oid) FROM pg_proc
WHERE pronamespace = 'synk'::regnamespace ORDER BY 1;
SELECT enumtypid::regtype::text, enumlabel FROM pg_enum ORDER BY 1, enumsortorder
"""


def catalog(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        return [connection.execute(query.encode()).fetchall() for query in CATALOG.split(";")]


def owners(dsn: str) -> list[tuple[object, ...]]:
    """Who owns what, and may do what with it."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT o.name, o.owner::regrole::text, ARRAY("
            " SELECT a::text FROM unnest(coalesce(o.acl, acldefault(o.kind, o.owner))) AS a"
            " ORDER BY 1) FROM ("
            " SELECT relname, 'r'::\"char\", relowner, relacl FROM pg_class"
            " WHERE relnamespace = 'synk'::regnamespace AND relkind = 'r'"
            " UNION ALL SELECT proname, 'f', proowner, proacl FROM pg_proc"
            " WHERE pronamespace = 'synk'::regnamespace"
            " UNION ALL SELECT typname, 'T', typowner, typacl FROM pg_type"
            " WHERE typnamespace = 'synk'::regnamespace AND typtype = 'e'"
            " UNION ALL SELECT nspname, 'n', nspowner, nspacl FROM pg_namespace"
            " WHERE nspname = 'synk'"
            ") AS o (name, kind, owner, acl) ORDER BY 1, 2"
        ).fetchall()
