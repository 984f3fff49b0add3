"""What is in a schema of synk's, to be compared."""

from __future__ import annotations

from typing import Final

import psycopg

CATALOG: Final = """
SELECT table_name, column_name, data_type, column_default, is_nullable
FROM information_schema.columns WHERE table_schema = 'synk' ORDER BY 1, 2;
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'synk' ORDER BY 1;
SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid = 'synk.job'::regclass ORDER BY 1;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'synk'::regnamespace ORDER BY 1;
SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'synk'::regnamespace ORDER BY 1;
SELECT enumtypid::regtype::text, enumlabel FROM pg_enum ORDER BY 1, enumsortorder
"""


def catalog(dsn: str) -> list[object]:
    with psycopg.connect(dsn) as connection:
        return [connection.execute(query.encode()).fetchall() for query in CATALOG.split(";")]


def owners(dsn: str) -> list[tuple[object, ...]]:
    """Who owns what, and may do what with it."""
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT relname, relowner::regrole::text, relacl::text FROM pg_class"
            " WHERE relnamespace = 'synk'::regnamespace AND relkind = 'r'"
            " UNION ALL SELECT proname, proowner::regrole::text, proacl::text FROM pg_proc"
            " WHERE pronamespace = 'synk'::regnamespace ORDER BY 1"
        ).fetchall()
