"""The worker's ends of what its supervisor watches: the notes of a job, and its output."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import io
import mmap
import os
import sys
import termios
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from synk.attempt import Attempt
from synk.core import wire
from synk.core.messages import Request
from synk.core.progress_cell import ProgressCell
from synk.runtime.ipc import linux, packets

if TYPE_CHECKING:
    import socket

    from synk.core.messages import Reply

_NO_BYTES: Final = b"\0\0\0\0"


class SupervisedAttempt(Attempt):
    """Notes of the running job, in memory that outlives a kill. One serves all jobs in turn."""

    def __init__(self, memory: mmap.mmap, words: memoryview) -> None:
        self._words = words
        self._progress = ProgressCell(memory, wire.PROGRESS_AT, wire.PROGRESS_BYTES_MAX)
        self._checkpoint = ProgressCell(memory, wire.CHECKPOINT_AT, wire.CHECKPOINT_BYTES_MAX)
        self.number = 0
        self._ends_ns = 0
        self.is_used = False
        """Whether the running job has noted something."""
        self._is_ours = True
        """Whether this process is the worker."""
        self._has_told = False

    def let_go(self, page_fd: int) -> None:
        """In a fork of this process: looks on, and notes nothing where the supervisor would see it.

        A fork may outlive the job, and what it notes would be the next one's.
        """
        self._words = memoryview(bytes(wire.WORDS_BYTES)).cast("Q")
        with contextlib.suppress(OSError, ValueError):
            seen = mmap.mmap(page_fd, wire.WORDS_BYTES, access=mmap.ACCESS_READ)
            self._words = memoryview(seen).cast("Q")
        self._is_ours = False

    def _is_kept(self, what: str) -> bool:
        """Whether the supervisor sees what is noted; says so once where it does not."""
        if not self._is_ours and not self._has_told:
            self._has_told = True
            print(  # noqa: T201 - into the job's output
                f"synk: {what} from a forked child is not kept: note it in the job's own process",
                file=sys.stderr,
            )
        return self._is_ours

    def begin(self, number: int, started_ns: int, timeout_s: float) -> None:
        """The next job runs."""
        self.number = number
        self._ends_ns = started_ns + int(timeout_s * 1e9)
        self.told = None
        if self.is_used:
            self._progress.clear()
            self._checkpoint.clear()
            self.progress = self.checkpoint = None
            self.is_used = False

    @property
    def deadline(self) -> dt.datetime | None:
        """When it is killed at the latest."""
        left_s = (self._ends_ns - time.monotonic_ns()) / 1e9
        return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=left_s)

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel it."""
        return self._words[wire.ASKED] == self.number << 1 | Request.CANCEL

    def note_progress(self, text: bytes) -> None:
        """Notes how far it is."""
        if not self._is_kept("progress"):
            return
        self.is_used = True
        self.progress = text
        self._progress.write(text)

    def note_checkpoint(self, text: bytes) -> None:
        """Notes what the next attempt is to have."""
        if not self._is_kept("a checkpoint"):
            return
        self.is_used = True
        self.checkpoint = text
        self._checkpoint.write(text)

    def added_to(self, reply: Reply) -> Reply:
        """Returns *reply* with the notes of the job."""
        if not self.is_used:
            return reply
        return replace(
            reply,
            progress=None if self.progress is None else self.progress.decode(),
            checkpoint=None if self.checkpoint is None else self.checkpoint.decode(),
        )


class OutputEnd:
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


def give_back(channel: socket.socket, *fds: int) -> None:
    """Closes what makes a process the worker of a slot; a job may have done so before."""
    with contextlib.suppress(OSError):
        channel.close()
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


def _identity(fd: int) -> tuple[int, int] | None:
    """Returns what a descriptor leads to; None if it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
