"""The keyboard of ``synk top``: keys are heeded at once, without Enter, and are not shown."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Self


class Keyboard:
    """The keyboard, while this is a context; afterwards the terminal is as it was.

    Where the standard input is no terminal, or another program has it, there are none.
    """

    def __init__(self) -> None:
        self._fd = -1
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        with contextlib.suppress(AttributeError, ValueError, OSError, termios.error):
            fd = sys.stdin.fileno()
            if os.tcgetpgrp(fd) == os.getpgrp():
                self._before = termios.tcgetattr(fd)
                tty.setcbreak(fd)
                self._fd = fd
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)
            self._fd = -1

    def ask_to_leave(self, seconds: float) -> bool:
        """Waits for so long; returns at once, and True, if q was pressed."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._fd < 0:
                time.sleep(left)
            elif select.select([self._fd], [], [], left)[0]:
                try:
                    typed = os.read(self._fd, 64)
                except OSError:
                    typed = b""
                # Nothing: the terminal is gone, and nobody looks any more.
                if typed.lower() in (b"q", b""):
                    return True
        return False
