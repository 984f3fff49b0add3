"""Connections that do not wait for an answer for ever: a network may drop packets without a word.

Each gives up on an answer that does not come in time, and is closed then.
"""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import psycopg
from psycopg.rows import TupleRow

from synk.waits import left_s

if TYPE_CHECKING:
    from psycopg.abc import PQGen, PQGenConn

RV = TypeVar("RV")

ANSWER_S: Final = 60.0
"""How long an answer may take; the server itself gives up a little earlier."""


_LAST_WORD_MS: Final = 20


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that does not wait for an answer for ever."""

    answer_s: float = ANSWER_S

    @classmethod
    def _connect_gen(cls, conninfo: str = "") -> PQGenConn[Self]:
        """See `psycopg.Connection._connect_gen`, which has two seconds a host at the least."""
        return _in_time(super()._connect_gen(conninfo), time.monotonic() + left_s(math.inf))

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        """See `psycopg.Connection.wait`.

        Raises:
            psycopg.OperationalError: the answer did not come in time; the connection is closed.
        """
        if timeout is not None:
            # Waiting for notifications, which need not come.
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(gen, interval, self.answer_s)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            raise _given_up(self, self.answer_s) from None


class BoundedAsyncConnection(psycopg.AsyncConnection[TupleRow]):
    """The same for asyncio."""

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = 0.1,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of psycopg
    ) -> RV:
        """See `BoundedConnection.wait`."""
        if timeout is not None:
            return await super().wait(gen, interval, timeout)
        try:
            return await super().wait(gen, interval, ANSWER_S)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            raise _given_up(self, ANSWER_S) from None


def bound(connection: psycopg.Connection[Any], answer_s: float) -> None:
    """Bounds a connection of any class: the caller's own may be no `BoundedConnection`."""
    wait_for_ever = connection.wait

    def wait(gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        if timeout is not None:
            return wait_for_ever(gen, interval, timeout)
        try:
            return wait_for_ever(gen, interval, answer_s)
        except psycopg.errors._WaitTimeout:  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
            raise _given_up(connection, answer_s) from None

    setattr(connection, "wait", wait)  # noqa: B010 - to a type checker it is a method of the class


def _in_time(steps: PQGenConn[RV], ends_at: float) -> PQGenConn[RV]:
    """Does the steps of connecting until then.

    Raises:
        psycopg.errors.ConnectionTimeout: that was too short.
    """
    ready: Any = None
    while True:
        if time.monotonic() >= ends_at:
            steps.close()
            raise psycopg.errors.ConnectionTimeout("no connection in the time that was left for it")
        try:
            step = steps.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield step


def _given_up(connection: psycopg.BaseConnection[Any], seconds: float) -> psycopg.OperationalError:
    connection.pgconn.finish()
    return psycopg.OperationalError(f"no answer within {seconds:g} s")


def is_alive(connection: psycopg.BaseConnection[Any]) -> bool:
    """Whether a connection that nobody used meanwhile still has its server, as far as is known.

    A server that shuts down, and a network that resets, leave word of it in the socket. Looked at
    before anything is sent, so that nothing is unknown about what was sent.
    """
    wait_ms = 0
    try:
        while _is_readable(connection.fileno(), wait_ms):
            connection.pgconn.consume_input()
            # Perhaps a server's last word, just before it hangs up.
            wait_ms = _LAST_WORD_MS
    except psycopg.OperationalError:
        return False
    return True


def _is_readable(fd: int, wait_ms: int) -> bool:
    if not hasattr(select, "poll"):
        # A program that eventlet has patched has only this, and it is eventlet's own.
        return bool(select.select([fd], [], [], wait_ms / 1000)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(wait_ms))
