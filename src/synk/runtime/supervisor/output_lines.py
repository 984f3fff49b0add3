"""What jobs write, on its way to the supervisor's own stderr: line by line, each with its job.

A line is passed on once it is whole, or its job is over, or it is very long. What comes from
`logging` has a form of its own already, and stays as it is; so does a JSON object, since whoever
writes those has a program that reads them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec

from synk.runtime.ipc.job_log import MARK
from synk.runtime.supervisor.terminal_text import shown, without_steps_up, written_over

if TYPE_CHECKING:
    from synk.claim import ClaimedJob

PENDING_BYTES_MAX: Final = 1024 * 1024
"""Output that waits for the supervisor's own stderr at most."""

_LINE_BYTES_MAX: Final = 64 * 1024
"""A longer line is passed on in several."""


class Label:
    """What the lines of a job begin with."""

    def __init__(self, job: ClaimedJob) -> None:
        self.job = job
        self._name = f"job {job.id} ({job.kind})".encode(errors="replace")

    def on(self, line: bytes) -> bytes:
        """Returns *line* with the label, unless it has one or must have none."""
        if line.startswith(self._name) or _is_object(line):
            return line
        return self._name + (b": " + line if line else b":")


def _is_object(line: bytes) -> bool:
    if not line.startswith(b'{"') or not line.rstrip().endswith(b"}"):
        return False
    try:
        msgspec.json.decode(line)
    except msgspec.MsgspecError:
        return False
    return True


class PipeLines:
    """What comes of one pipe, cut into lines. Only the writer's thread touches it."""

    def __init__(self) -> None:
        self._begun = b""
        """The line that is not whole yet."""
        self._label: Label | None = None

    def lines(self, part: bytes, label: Label | None) -> bytes:
        """Takes what was written next, and by whom; returns the lines that are whole now."""
        ended = b"" if label is self._label else self.rest()
        self._label = label
        *whole, self._begun = without_steps_up(self._begun + part).split(b"\n")
        told = b"".join(map(self._told, whole))
        if b"\r" in self._begun:
            self._begun = bytes(written_over(self._begun))
        if len(self._begun) > _LINE_BYTES_MAX:
            told += self.rest()
        return ended + told

    def rest(self) -> bytes:
        """Returns the line that was begun, as a whole one."""
        begun, self._begun = self._begun, b""
        return self._told(begun) if begun else b""

    def _told(self, line: bytes) -> bytes:
        line = shown(line)
        is_log = line.startswith(MARK)
        line = line.replace(MARK, b"")
        return (line if self._label is None or is_log else self._label.on(line)) + b"\n"


class StderrWriter:
    """Writes to stderr in a thread of its own, so that nobody else waits for it."""

    def __init__(self) -> None:
        # Where it was closed from the start, descriptor 2 is some other file by now.
        self._fd = 2 if sys.stderr else None
        self._parts: deque[tuple[PipeLines, bytes, Label | None]] = deque()
        self._pending = 0
        self._dropped = 0
        self._arrived = threading.Event()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def put(self, pipe_lines: PipeLines, part: bytes, label: Label | None) -> None:
        """Takes output; returns at once. What does not fit is dropped.

        Args:
            pipe_lines: of the pipe that it came from.
            part: what was written; empty: a line that was begun there is over.
            label: whose it is.
        """
        if self._pending + len(part) > PENDING_BYTES_MAX:
            self._dropped += len(part)
            return
        if self._thread is None:
            if not part:
                return
            # Most supervisors' jobs write nothing: no thread for them.
            self._thread = threading.Thread(target=self._run, name="synk-output", daemon=True)
            self._thread.start()
        self._pending += len(part)
        self._parts.append((pipe_lines, part, label))
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
                pipe_lines, part, label = self._parts.popleft()
                self._write(pipe_lines.lines(part, label) if part else pipe_lines.rest())
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
