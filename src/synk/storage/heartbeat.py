"""The connection that does nothing but renew a lease."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synk.storage import migrate
from synk.storage.cursors import run
from synk.storage.faults import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from synk.status import Beat
    from synk.storage.statement import Statement


@dataclass(frozen=True, slots=True)
class PostgresHeartbeat:
    """Renews a lease, on a connection of its own.

    Args:
        connection: nothing else uses it.
        renewal: the statement.
        describe: says which database it is.
    """

    schema_version = migrate.LATEST

    connection: psycopg.Connection[Any]
    renewal: Statement[Beat | None]
    describe: Callable[[], str]

    def beat(self) -> Beat | None:
        """See `Heartbeat.beat`."""
        with translated(self.describe):
            return run(self.connection, self.renewal)
