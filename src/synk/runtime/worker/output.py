"""Where descriptors 1 and 2 of a worker lead: a pipe for each job that writes; see `job_output`."""

from __future__ import annotations

import fcntl
import io
import os
import sys
import termios
from typing import TYPE_CHECKING, Final

import msgspec

from synk.core import wire
from synk.runtime.ipc import linux, packets

if TYPE_CHECKING:
    import socket

_NO_BYTES: Final = b"\0\0\0\0"


class OutputPipe:
    """The writing end of the pipe that descriptors 1 and 2 of this process lead to.

    Args:
        fd: the pipe of the first job; this object owns it.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pipe = _identity(fd)
        self._left = 0
        """Pipes that were left to jobs that are over."""
        self._lead_here()
        linux.line_buffer_stdio()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                # A killed process writes no buffers out.
                stream.reconfigure(line_buffering=True)

    def _lead_here(self) -> None:
        os.dup2(self.fd, 1)
        os.dup2(self.fd, 2)

    def was_used(self, words: memoryview) -> bool:
        """Whether anything was written since the pipe was begun."""
        try:  # noqa: SIM105 - after every job: this costs nothing, and suppress() does
            sys.stdout.flush()
        except (AttributeError, ValueError, OSError):
            pass
        # In this order: what the supervisor has read by now, it has said that it reads.
        unread = fcntl.ioctl(self.fd, termios.FIONREAD, _NO_BYTES)
        return unread != _NO_BYTES or words[wire.OUTPUT_READ] != 0

    def restore(self) -> str | None:
        """Has descriptors 1 and 2 lead here again; returns why a fresh process is needed, if so."""
        if any(getattr(stream, "closed", False) for stream in (sys.stdout, sys.stderr)):
            return "a job has closed stdout or stderr"
        if not all(map(self.is_led_to, (1, 2))):
            self._lead_here()
        return None

    def is_led_to(self, fd: int) -> bool:
        """Whether what is written to *fd* comes here."""
        return _identity(fd) == self._pipe

    def begin_anew(self, words: memoryview, channel: socket.socket, number: int) -> None:
        """Leaves the pipe to job *number*, and begins another one for the next.

        Number 0 is what comes before the first job.
        """
        if not self.was_used(words):
            return
        # Not at a low number: a job may have closed 1 or 2, which get their own meaning back here.
        reading, writing = map(linux.moved_high, os.pipe())
        try:
            linux.widen_pipe(writing)
            words[wire.OUTPUT_READ] = 0
            # Over the old one: its last writer is gone with this.
            os.dup2(writing, self.fd, inheritable=False)
            self._pipe = _identity(self.fd)
            self._lead_here()
            packets.send_with(channel, wire.OUTPUT + msgspec.msgpack.encode(number), [reading])
            # After it: who sees this finds the packet in the channel.
            self._left += 1
            words[wire.PIPES_LEFT] = self._left
        finally:
            os.close(reading)
            os.close(writing)


def _identity(fd: int) -> tuple[int, int] | None:
    """Returns what a descriptor leads to; None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
