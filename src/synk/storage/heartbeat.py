"""The connection that does nothing but renew a lease."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from synk.storage import migrate
from synk.storage.cursors import run
from synk.storage.faults import translated

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from synk.status import Beat
    from synk.storage.statements import Statement


class PostgresHeartbeat:
    """Renews a lease, on a connection of its own.

    Args:
        connection: nothing else uses it.
        renewal: the statement.
        describe: says which database it is.
    """

    schema_version = migrate.LATEST

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        renewal: Statement[Beat | None],
        describe: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._renewal = renewal
        self._describe = describe

    def beat(self) -> Beat | None:
        """See `Heartbeat.beat`."""
        with translated(self._describe):
            return run(self._connection, self._renewal)
