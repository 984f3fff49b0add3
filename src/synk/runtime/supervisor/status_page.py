"""A worker's status page as its supervisor reads it, also after a SIGKILL; see `core.wire`."""

from __future__ import annotations

import mmap
import os
from typing import Final

import msgspec

from synk.core import stack_text, wire
from synk.core.progress_cell import ProgressCell
from synk.remote_traceback.text import clean_text
from synk.runtime.worker import handler_modules, job_loop
from synk.runtime.worker import main as worker_main

STACK_BYTES_MAX: Final = 32 * 1024
"""Kept of a stack."""

_STACKS_BYTES_MAX: Final = 128 * 1024
"""Read of the end of what a worker wrote as it died, which may be of a hundred threads."""

_MACHINERY: Final = (worker_main.__file__, handler_modules.__file__, job_loop.__file__)


class StatusPage:
    """Memory that is shared with a worker, and the file behind it, where stacks are written."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("synk-status-page")
        os.ftruncate(self.fd, wire.STATUS_PAGE_BYTES)
        # Stacks are written from here on. The offset is shared with the worker's descriptor.
        os.lseek(self.fd, wire.STATUS_PAGE_BYTES, os.SEEK_SET)
        self._memory = mmap.mmap(self.fd, wire.STATUS_PAGE_BYTES)
        self.words = memoryview(self._memory)[: wire.WORDS_BYTES].cast("Q")
        self._progress = ProgressCell(self._memory, wire.PROGRESS_AT, wire.PROGRESS_BYTES_MAX)
        self._checkpoint = ProgressCell(self._memory, wire.CHECKPOINT_AT, wire.CHECKPOINT_BYTES_MAX)

    def progress(self) -> tuple[str | None, str | None]:
        """Returns the progress and the checkpoint that were noted last, as JSON text."""
        return _json(self._progress), _json(self._checkpoint)

    def stack(self) -> str:
        """Returns the stacks that the worker wrote as it died, the job's first."""
        # The job's own thread is the last.
        begin = os.fstat(self.fd).st_size - _STACKS_BYTES_MAX
        part = os.pread(self.fd, _STACKS_BYTES_MAX, max(wire.STATUS_PAGE_BYTES, begin))
        text = stack_text.of_user(part.decode(errors="replace"), _MACHINERY)
        return clean_text(text, STACK_BYTES_MAX)

    def close(self) -> None:
        """Gives back the memory and the descriptor."""
        self.words.release()
        self._memory.close()
        os.close(self.fd)


def _json(cell: ProgressCell) -> str | None:
    """Returns a cell's text if it is JSON still: anything in the job's process can write there."""
    text = cell.read()
    if text is not None:
        try:
            msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return None
    return text
