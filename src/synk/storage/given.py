"""The caller's own pool, and what takes its place for as long as its connections are all dead.

After a server was away a pool tries again by itself, after pauses that grow to minutes. Until then
a connection is used that is made as the pool makes its own, so that nobody waits for longer than
for the server. A pool that is merely exhausted is waited for.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import psycopg_pool

from synk.storage.borrowing import in_utf8
from synk.storage.bounds import is_alive
from synk.storage.sessions import CONNECT_S
from synk.waits import left_s

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import psycopg

_BROKEN_S: Final = 0.1
"""How long it is waited for after its connections were found dead."""


@dataclass(slots=True)
class GivenPool:
    """Lends connections of a pool of the caller's, which stays theirs to open and close.

    Args:
        pool: theirs.
        make: makes a connection as that pool makes its own.
        note: is told of each connection that the pool lends.
    """

    pool: psycopg_pool.ConnectionPool[Any]
    make: Callable[[], psycopg.Connection[Any]]
    note: Callable[[psycopg.Connection[Any]], None]
    _is_broken: bool = field(default=False, init=False)

    def is_of_no_use(self, error: BaseException) -> None:
        """One of its connections was found dead, or none could be made."""
        if not isinstance(error, (psycopg_pool.PoolTimeout, psycopg_pool.PoolClosed)):
            self._is_broken = True

    @contextmanager
    def connection(self) -> Generator[psycopg.Connection[Any]]:
        """Lends a connection that is alive, as far as is known."""
        deadline = time.monotonic() + left_s(CONNECT_S)
        with ExitStack() as lent:
            connection = self._lend(lent)
            while connection is not None and not is_alive(connection):
                # Given back, it is one less of those that died together.
                lent.close()
                self._is_broken = True
                if time.monotonic() > deadline:
                    raise psycopg_pool.PoolTimeout(f"{self.pool.name!r} has only dead connections")
                connection = self._lend(lent)
            if connection is None:
                yield lent.enter_context(self.make())
            else:
                self.note(connection)
                lent.enter_context(in_utf8(connection, of_pool=True))
                yield connection
                self._is_broken = False

    def _lend(self, lent: ExitStack) -> psycopg.Connection[Any] | None:
        """Lends a connection of the pool; None if it has none because they were dead."""
        timeout_s = left_s(_BROKEN_S if self._is_broken else CONNECT_S)
        try:
            return lent.enter_context(self.pool.connection(timeout=timeout_s))
        except psycopg_pool.PoolTimeout:
            if self._is_broken:
                return None
            raise
