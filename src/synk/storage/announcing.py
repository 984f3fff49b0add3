"""Hints that something has happened in the database, over LISTEN."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from synk.errors import StorageUnavailable
from synk.storage import sql
from synk.storage.base import Hints
from synk.storage.faults import translated

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import psycopg

_PING_S: Final = 10.0
"""How often a connection that only listens is asked whether its server is still there."""

PING_ANSWER_S: Final = 5.0
"""How long the answer may take."""


class NoAnnouncements:
    """What takes the place of LISTEN where a pooler does not let it through: polling is all."""

    is_live = False

    def __init__(self) -> None:
        self._awake = threading.Event()

    def wait(self, timeout_s: float) -> Hints:
        """See `Announcements.wait`."""
        self._awake.wait(timeout_s)
        return Hints()

    def wake(self) -> None:
        """See `Announcements.wake`."""
        self._awake.set()


class PostgresAnnouncements:
    """Hints over LISTEN, on a connection of its own.

    Silence may mean that nothing happens, or that the connection leads nowhere: now and then the
    server is asked for a sign of life, and whether it still is the one that jobs are written to.
    """

    is_live = True

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        owner: UUID,
        *,
        schema: str,
        describe: Callable[[], str],
    ) -> None:
        self._connection = connection
        self._describe = describe
        self._jobs = sql.channel("job", schema)
        self._settings = sql.channel("setting", schema)
        self._owner = str(owner)
        self._ping_at = time.monotonic() + _PING_S
        # Of sockets, which a thread may use that does not know whether they are closed by now.
        self._wake_out, self._wake_in = socket.socketpair()

    def wait(self, timeout_s: float) -> Hints:
        """See `Announcements.wait`."""
        # Not psycopg's own waiting, which wakes up ten times a second.
        select.select([self._connection.fileno(), self._wake_out], [], [], timeout_s)
        with translated(self._describe):
            if time.monotonic() >= self._ping_at:
                self._ping()
            heard = [
                (each.channel, each.payload)
                for each in self._connection.notifies(timeout=0, stop_after=1)
            ]
        return Hints(
            queues=frozenset(payload for channel, payload in heard if channel == self._jobs),
            requests=any(
                payload == self._owner for channel, payload in heard if channel != self._jobs
            ),
            settings=any(channel == self._settings for channel, _ in heard),
        )

    def wake(self) -> None:
        """See `Announcements.wake`."""
        with suppress(OSError):
            self._wake_in.send(b"x")

    def close(self) -> None:
        """Frees what only `wake` needs; the connection is the caller's."""
        self._wake_in.close()
        self._wake_out.close()

    def _ping(self) -> None:
        self._ping_at = time.monotonic() + _PING_S
        if self._connection.execute("SHOW transaction_read_only").fetchone() != ("off",):
            raise StorageUnavailable(f"{self._describe()} is read-only now")
