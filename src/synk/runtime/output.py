"""What jobs write to stdout and stderr: caught at the descriptors, told apart by job, passed on.

Each worker's descriptors 1 and 2 lead into one pipe. When a job that wrote something is over, its
worker begins a new pipe and sends the reading end along: whatever is in the old one belongs to that
job and to no other, whoever wrote it, Python, a C library or a subprocess. The supervisor keeps the
end of it for the job's record, and passes all of it on to its own stderr.

Neither side ever waits for the other: a worker whose pipe is full waits, which is its own affair,
and what the supervisor's stderr does not take in time is dropped, and counted.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
from collections import deque
from typing import Final

from synk import failure

TAIL_BYTES: Final = 16 * 1024
"""Kept of a job's output."""

PIPE_BYTES: Final = 256 * 1024
"""What a job may write before it waits for the supervisor to look."""

READ_BYTES_MAX: Final = 512 * 1024
"""Read at one look at most: a flood must not hold up the loop."""

PENDING_BYTES_MAX: Final = 1024 * 1024
"""Output that waits for the supervisor's own stderr at most."""

_F_SETPIPE_SZ: Final = 1031

_ERASURE: Final = re.compile(r"\x1b\[[012]?K")
"""Asks a terminal to erase the rest of a line, or all of it."""


def widen(fd: int) -> None:
    """Gives a pipe more room, if the user may have so much."""
    import fcntl  # noqa: PLC0415 - one call

    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, _F_SETPIPE_SZ, PIPE_BYTES)


class Pipe:
    """The reading end of one job's, or one worker's, output; it keeps the last 16 KiB."""

    def __init__(self, fd: int, passed_on: Passer) -> None:
        self.fd = fd
        self._passed_on = passed_on
        self._tail = bytearray()
        self.is_at_end = False
        """Whether nobody can write to it any more."""
        os.set_blocking(fd, False)

    def drain(self) -> None:
        """Reads what is there, up to a limit."""
        read = 0
        while read < READ_BYTES_MAX:
            try:
                part = os.read(self.fd, 65536)
            except BlockingIOError:
                return
            except OSError:
                # Something else than the reading end of a pipe came from the worker.
                part = b""
            if not part:
                self.is_at_end = True
                return
            read += len(part)
            self._passed_on.put(part)
            self._tail += part
            if b"\r" in part:
                self._tail = _written_over(self._tail)
            del self._tail[:-TAIL_BYTES]

    def tail(self) -> str:
        """Returns the last 16 KiB, from a whole character on, as text that can be stored.

        Of lines that were written over, as progress bars do, it has what a terminal shows.
        """
        text = bytes(self._tail)
        if b"\r" in text:
            text = b"\n".join(map(_shown, text.split(b"\n")))
        while text and text[0] & 0xC0 == 0x80:
            text = text[1:]
        return failure.clean_text(text.decode(errors="replace"), TAIL_BYTES)

    def close(self) -> None:
        """Gives back the descriptor."""
        os.close(self.fd)


def _written_over(tail: bytearray) -> bytearray:
    """Returns the tail without what its lines have been written over with since.

    The last line goes on: what is written after its last carriage return stays apart, since the
    next part may continue it, in the middle of a character even.
    """
    *lines, last = tail.split(b"\n")
    before, returned, current = last.rpartition(b"\r")
    kept = [*map(_shown, lines), _shown(before) + returned + current]
    return bytearray(b"\n".join(kept))


def _shown(line: bytes | bytearray) -> bytes:
    """Returns what a terminal shows of a line that carriage returns have begun anew."""
    if b"\r" not in line:
        return bytes(line)
    shown = ""
    for text in line.decode(errors="surrogateescape").split("\r"):
        # What a shorter text leaves of the longer one before it stays, unless it is erased.
        rest = "" if _ERASURE.search(text) else shown[len(text) :]
        shown = _ERASURE.sub("", text) + rest
    return shown.encode(errors="surrogateescape")


class Passer:
    """Writes to stderr in a thread of its own, so that nobody else waits for it."""

    def __init__(self) -> None:
        # Where it was closed from the start, descriptor 2 is some other file by now.
        self._fd = 2 if sys.stderr else None
        self._parts: deque[bytes] = deque()
        self._pending = 0
        self._dropped = 0
        self._arrived = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def put(self, part: bytes) -> None:
        """Takes output; returns at once. What does not fit is dropped."""
        if self._pending + len(part) > PENDING_BYTES_MAX:
            self._dropped += len(part)
            return
        self._pending += len(part)
        self._parts.append(part)
        if self._thread is None:
            # Most supervisors' jobs write nothing: no thread for them.
            self._thread = threading.Thread(target=self._run, name="synk-output", daemon=True)
            self._thread.start()
        self._arrived.set()

    def stop(self, timeout_s: float) -> None:
        """Writes what is left, for at most *timeout_s* seconds."""
        self._stopping = True
        self._arrived.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._arrived.wait()
            self._arrived.clear()
            while self._parts:
                part = self._parts.popleft()
                self._write(part)
                self._pending -= len(part)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._write(f"synk: {dropped} bytes of jobs' output were dropped\n".encode())
            if self._stopping:
                return

    def _write(self, part: bytes) -> None:
        if self._fd is None:
            return
        # A closed stderr is no reason to stop anything.
        with contextlib.suppress(OSError):
            while part:
                part = part[os.write(self._fd, part) :]
