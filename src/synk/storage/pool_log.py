"""What psycopg's pool logs of synk's own pools, which synk tells in its own words.

Each outage would be in the log twice, and once more for each try. What pools of the program log is
left alone.
"""

from __future__ import annotations

import logging
from typing import Final

import psycopg_pool

POOL: Final = "synk's own pool"
"""The name of a pool of synk's, which tells it from one of the program's."""


def be_silent_about_own() -> None:
    """Drops what psycopg's pool logs of synk's pools and their connections."""
    logging.getLogger("psycopg.pool").addFilter(_is_of_others)


def _is_of_others(record: logging.LogRecord) -> bool:
    given = record.args if isinstance(record.args, tuple) else ()
    return not any(map(_is_ours, given))


def _is_ours(value: object) -> bool:
    if value == POOL or type(value).__module__ == "synk.storage.bounds":
        return True
    # A task has a weak reference to its pool.
    pool = getattr(value, "pool", None)
    owner = pool() if callable(pool) else None
    kinds = (psycopg_pool.ConnectionPool, psycopg_pool.AsyncConnectionPool)
    return isinstance(owner, kinds) and owner.name == POOL
