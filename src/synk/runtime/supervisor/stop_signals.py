"""The signals that stop a supervisor, heard by a thread of their own.

What a signal handler calls runs in the main thread between any two of its instructions, within its
locks and its half-written lines, and not at all while that thread is in C code. So the handlers
here do nothing: the kernel's news goes through a pipe to a thread, which acts like any other.

What is called is `Service.stop`; what follows is `Supervisor.stop` and `Supervisor.end`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Generator[None]:
    """Has *stop* called for each stop signal meanwhile; only where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(
        target=_pass_on, args=(reading, stop), name="synk-signals", daemon=True
    )
    thread.start()
    # In this order, and back in the reverse: no signal is handled that nobody hears of.
    fd_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before: dict[int, Any] = {
        number: signal.signal(number, _ignore)
        for number in STOP_SIGNALS
        # `nohup` means it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(fd_before)
        os.close(writing)
        thread.join()


def _pass_on(reading: int, stop: Callable[[], None]) -> None:
    while numbers := os.read(reading, 64):
        for number in numbers:
            if number in STOP_SIGNALS:
                stop()
    os.close(reading)


def _ignore(_signal: int, _frame: object) -> None:
    """A handler has to be there, or the signal would end the process."""
