"""What a job notes of its progress, where its supervisor sees it."""

from __future__ import annotations

import contextlib
import datetime as dt
import mmap
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from synk.attempt import Attempt
from synk.core import wire
from synk.core.messages import Request
from synk.core.progress_cell import ProgressCell

if TYPE_CHECKING:
    from synk.core.messages import Reply


class SharedAttempt(Attempt):
    """The attempt that runs, in memory that outlives a kill. One serves all jobs in turn."""

    is_by_hand = False

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

    def let_go(self, status_page_fd: int) -> None:
        """In a fork of this process: looks on, and notes nothing where the supervisor would see it.

        A fork may outlive the job, and what it notes would be the next one's.
        """
        self._words = memoryview(bytes(wire.WORDS_BYTES)).cast("Q")
        with contextlib.suppress(OSError, ValueError):
            seen = mmap.mmap(status_page_fd, wire.WORDS_BYTES, access=mmap.ACCESS_READ)
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
        return msgspec.structs.replace(
            reply,
            progress=None if self.progress is None else self.progress.decode(),
            checkpoint=None if self.checkpoint is None else self.checkpoint.decode(),
        )
