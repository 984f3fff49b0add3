"""Where another process is in its Python code, read from its memory by py-spy.

It stops nothing and needs no answer, so it works for a job in C code too. It needs py-spy, beside
this interpreter or on the path, and the right to read another process's memory: root's, or that of
a kernel that lets one's own processes be read (``kernel.yama.ptrace_scope`` 0).
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Final

import msgspec

from synk import failure, registry
from synk.runtime.worker import job_loop

SAMPLE_S: Final = 10.0
"""How long it may take; usually it is a few hundredths."""

_BYTES_MAX: Final = 32 * 1024
_OWN_FILES: Final = (job_loop.__file__, registry.__file__)


class _Frame(msgspec.Struct):
    name: str
    filename: str
    line: int


class _Thread(msgspec.Struct):
    frames: list[_Frame]
    """The most recent call first."""
    thread_name: str | None = None


_decode = msgspec.json.Decoder(list[_Thread]).decode


def program() -> str | None:
    """Returns the path of py-spy, or None if it is not installed."""
    beside = shutil.which("py-spy", path=str(Path(sys.executable).parent))
    return beside or shutil.which("py-spy")


def sampled_stack(pid: int) -> str | None:
    """Returns where the job in a worker process is, the most recent call last.

    None: there is no py-spy, it may not look, what it read makes no sense, or no job runs.
    """
    found = program()
    if found is None:
        return None
    command = [found, "dump", "--json", "--nonblocking", "--pid", str(pid)]
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command and a number
            command, capture_output=True, timeout=SAMPLE_S, check=True
        )
        threads = _decode(done.stdout)
    except (OSError, subprocess.SubprocessError, msgspec.MsgspecError):
        return None
    return _text(threads)


def _text(threads: list[_Thread]) -> str | None:
    """Returns the job's own frames, and then those of the threads that it has started."""
    job: str | None = None
    others: list[str] = []
    for thread in threads:
        frames = list(itertools.takewhile(_is_not_ours, thread.frames))
        text = "".join(traceback.format_list([_summary(frame) for frame in reversed(frames)]))
        if len(frames) < len(thread.frames):
            job = text
        else:
            others.append(f"Thread {thread.thread_name or '?'}:\n{text}")
    return failure.clean_text("".join([job, *others]).encode(), _BYTES_MAX) if job else None


def _is_not_ours(frame: _Frame) -> bool:
    return frame.filename not in _OWN_FILES


def _summary(frame: _Frame) -> traceback.FrameSummary:
    return traceback.FrameSummary(frame.filename, frame.line, frame.name)
