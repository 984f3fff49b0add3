"""What jobs write to stdout and stderr: caught at the descriptors, told apart by job, passed on.

Each worker's descriptors 1 and 2 lead into one pipe. When a job that wrote something is over, its
worker begins a new pipe and sends the reading end along: whatever is in the old one belongs to that
job and to no other, whoever wrote it, Python, a C library or a subprocess. The supervisor keeps the
end of it for the job's record, and passes all of it on to its own stderr, as `output_lines` says.

Neither side ever waits for the other: a worker whose pipe is full waits, which is its own affair,
and what the supervisor's stderr does not take in time is dropped, and counted.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from synk.core import wire
from synk.remote_traceback.text import clean_text
from synk.runtime.ipc.job_log import MARK
from synk.runtime.supervisor.output_lines import Label, PipeLines
from synk.runtime.supervisor.terminal_text import as_shown, written_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob
    from synk.runtime.supervisor.output_lines import StderrWriter
    from synk.runtime.supervisor.selector import Selector

TAIL_BYTES: Final = 16 * 1024
"""Kept of a job's output."""

READ_BYTES_MAX: Final = 512 * 1024
"""Read at one look at most: a flood must not hold up the loop."""

PAUSE_S: Final = 0.02
"""Between two looks at a worker's output: a job that writes much must not keep the loop busy."""

_OLD_PIPES_MAX: Final = 8
"""Pipes of finished jobs that something still writes to, which a worker may have at a time."""


class Pipe:
    """The reading end of one job's, or one worker's, output; it keeps the last 16 KiB."""

    def __init__(self, fd: int, stderr: StderrWriter) -> None:
        self.fd = fd
        self._stderr = stderr
        self._lines = PipeLines()
        self._read: list[bytes] = []
        """What is to be passed on."""
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
            self._read.append(part)
            self._tail += part
            if b"\r" in part:
                self._tail = written_over(self._tail)
            del self._tail[:-TAIL_BYTES]

    def pass_on(self, label: Label | None) -> None:
        """Passes on what was read, with the label of the job that wrote it, if it is known."""
        for part in self._read:
            self._stderr.put(self._lines, part, label)
        self._read.clear()

    def end_line(self) -> None:
        """Passes on the line that was begun, too: whoever did is over."""
        self._stderr.put(self._lines, b"", None)

    def tail(self) -> str:
        """Returns the last 16 KiB, from a whole character on, as text that can be stored.

        Of lines that were written over, as progress bars do, it has what a terminal shows.
        """
        text = bytes(self._tail).replace(MARK, b"")
        if b"\r" in text:
            text = as_shown(text)
        while text and text[0] & 0xC0 == 0x80:
            text = text[1:]
        return clean_text(text.decode(errors="replace"), TAIL_BYTES)

    def close(self) -> None:
        """Gives back the descriptor."""
        self.is_at_end = True
        self.pass_on(None)
        self.end_line()
        os.close(self.fd)


class Outputs:
    """What one worker's jobs write: the pipe of the present one, and those of jobs that are over.

    Args:
        fd: the reading end of the first pipe.
        words: of the worker's status page.
        selector: says when there is something to read, once `listen` was called.
        stderr: where all of it goes.
        job_of: says which job has a number, of those that the worker has and that are not over.
    """

    def __init__(
        self,
        fd: int,
        words: memoryview,
        selector: Selector,
        stderr: StderrWriter,
        job_of: Callable[[int], ClaimedJob | None],
    ) -> None:
        self._words = words
        self._selector = selector
        self._stderr = stderr
        self._job_of = job_of
        self._present = Pipe(fd, stderr)
        self._left: list[tuple[Pipe, Label | None]] = []
        """Of jobs that are over, to which something still writes."""
        self._count = 0
        """How many pipes the worker has left to jobs that are over, as far as we have heard."""
        self._tails: dict[int, str] = {}
        """Of jobs that are over, until their reply is read."""
        self._label: Label | None = None
        self._rests = False
        self.has_new_pipe = False
        """Whether `listen` is to be called again."""

    def listen(self) -> None:
        """Reads what there is whenever the selector says so, until it is closed."""
        self.has_new_pipe = False
        if not self._rests:
            for pipe in self._open_pipes():
                if not self._selector.is_watching(pipe.fd):
                    self._selector.watch(pipe.fd, self._on_written)

    def _on_written(self) -> None:
        for pipe in self._open_pipes():
            self._selector.forget(pipe.fd)
        self.read()
        if self._open_pipes():
            self._rests = True
            self._selector.call_at(time.monotonic() + PAUSE_S, self._on_rested)

    def _on_rested(self) -> None:
        self._rests = False
        self.listen()

    def _open_pipes(self) -> list[Pipe]:
        """Returns those that may bring more."""
        pipes = (self._present, *(pipe for pipe, _ in self._left))
        return [pipe for pipe in pipes if not pipe.is_at_end]

    def read(self) -> None:
        """Reads what there is. It must have been announced to the worker by then."""
        words = self._words
        # Else it is a job's that is over: `leave_to` reads it, and knows whose it is.
        if words[wire.PIPES_LEFT] == self._count:
            words[wire.OUTPUT_READ] = 1
            self._present.drain()
            # In this order: whoever wrote what was read, and is over since, has left the pipe
            # before the next job began.
            number, done = words[wire.RUNNING], words[wire.DONE]
            if words[wire.PIPES_LEFT] == self._count:
                self._present.pass_on(self._label_of(number) if number > done else None)
        for pipe, label in list(self._left):
            pipe.drain()
            pipe.pass_on(label)
            if pipe.is_at_end:
                self._left.remove((pipe, label))
                self._close(pipe)

    def leave_to(self, number: int, fd: int) -> None:
        """The pipe belongs to job *number*, which is over; the next one is *fd*."""
        old, label = self._present, self._label_of(number)
        self._count += 1
        old.drain()
        self._present = Pipe(fd, self._stderr)
        self.has_new_pipe = True
        # Read once more: only with no writer left it is at its end.
        old.drain()
        old.pass_on(label)
        if old.is_at_end:
            self._close(old)
        else:
            old.end_line()
            self._left.append((old, label))
            if len(self._left) > _OLD_PIPES_MAX:
                self._close(self._left.pop(0)[0])
        if number:
            self._tails[number] = old.tail()

    def _label_of(self, number: int) -> Label | None:
        job = self._job_of(number)
        if job is None:
            return None
        if self._label is None or self._label.job is not job:
            self._label = Label(job)
        return self._label

    def pop(self, number: int) -> str:
        """Returns the last of what job *number* wrote, which is over."""
        return self._tails.pop(number, "")

    def last(self) -> str:
        """Returns the last of what the job wrote with which the worker died."""
        # What it has said is heard by now, if it was not nonsense.
        self._count = self._words[wire.PIPES_LEFT]
        self.read()
        # Of one that was killed between its last words and its end, or of one that ran.
        return (self.pop(self._words[wire.RUNNING]) + self._present.tail())[-TAIL_BYTES:]

    def close(self) -> None:
        """Passes on what is left, and gives back all descriptors."""
        self.read()
        for pipe in (self._present, *(pipe for pipe, _ in self._left)):
            self._close(pipe)
        self._left.clear()

    def _close(self, pipe: Pipe) -> None:
        self._selector.forget(pipe.fd)
        pipe.close()
