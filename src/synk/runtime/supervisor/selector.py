"""What the engine's loop waits for: descriptors that have something, and moments that come.

Whoever owns a descriptor registers it here with what is to be called, and forgets it before it
closes it. Other threads, and signal handlers, only `wake`.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT


class Selector:
    """Calls what was registered, in the thread that asks it to."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], None]] = {}
        self._ready: list[tuple[int, Callable[[], None]]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        """A heap; the number keeps apart what is due at the same moment."""
        self._numbers = itertools.count()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Open as long as anybody can wake: the number may be another file's once it is closed.
        weakref.finalize(self, os.close, self._wake)
        self.watch(self._wake, self._on_wake)

    def wake(self) -> None:
        """Ends the wait that is under way, or the next one; from any thread."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self._wake, 1)

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)

    def watch(self, fd: int, call: Callable[[], None], events: int = READABLE) -> None:
        """Has *call* called whenever *fd* has something, until it is forgotten."""
        self._epoll.register(fd, events)
        self._calls[fd] = call

    def modify(self, fd: int, events: int) -> None:
        """Looks at *fd* for other events from now on, if it is watched."""
        if fd in self._calls:
            self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Watches *fd* no more, if it did; also not for what is ready already."""
        if self._calls.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def is_watching(self, fd: int) -> bool:
        """Whether *fd* is watched."""
        return fd in self._calls

    def call_at(self, due: float, call: Callable[[], None]) -> None:
        """Has *call* called once, at the time *due* on the monotonic clock.

        It cannot be taken back: what it finds may be over by then.
        """
        heapq.heappush(self._timers, (due, next(self._numbers), call))

    def next_at(self) -> float | None:
        """Returns when `call_due` has something to do, on the monotonic clock; None: never."""
        return self._timers[0][0] if self._timers else None

    def wait(self, timeout_s: float) -> None:
        """Waits until something is ready, at most so long."""
        calls = self._calls
        self._ready = [(fd, calls[fd]) for fd, _ in self._epoll.poll(timeout_s)]

    def call_ready(self) -> None:
        """Calls what belongs to all that was ready, but for what was forgotten since."""
        for fd, call in self._ready:
            if self._calls.get(fd) is call:
                call()

    def call_due(self, now: float) -> None:
        """Calls what is due."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        """Ends it."""
        self._epoll.close()
        self._calls.clear()
        self._timers.clear()
