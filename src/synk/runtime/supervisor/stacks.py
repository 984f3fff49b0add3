"""Where a running job is in its Python code, for whoever asks.

Its stack is read from the worker's memory by py-spy if that can be: it stops nothing and needs no
answer, so it works for a job in C code too. It needs py-spy, beside this interpreter or on the
path, and the right to read another process's memory: root's, or that of a kernel that lets one's
own processes be read (``kernel.yama.ptrace_scope`` 0). Else a signal asks the worker, which tells
its stack between two Python instructions of the job.

The stack that a killed job leaves behind comes another way: see `WorkerProcess.kill_with_stack`.
"""

from __future__ import annotations

import itertools
import math
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from synk import registry
from synk.remote_traceback.text import clean_text
from synk.runtime.supervisor.worker_status import progress_of
from synk.runtime.worker import job_loop

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from synk.runtime.supervisor.engine import Engine
    from synk.runtime.supervisor.worker_process import WorkerProcess
    from synk.storage.inspection import Inspection

STACK_S: Final = 2.0
"""How long a job may take to answer where it is."""

_ANSWER_PAUSE_S: Final = 0.02
"""Between two looks whether it has."""

SAMPLE_S: Final = 10.0
"""How long it may take; usually it is a few hundredths."""

_BYTES_MAX: Final = 32 * 1024
_OWN_FILES: Final = (job_loop.__file__, registry.__file__)


class _Asked(NamedTuple):
    """A job whose worker was asked by a signal."""

    job_id: int
    pid: int
    until: float


class StackQuestions:
    """Answers the questions that people leave in the storage for one supervisor."""

    def __init__(self, inspection: Inspection, engine: Engine, owner: UUID) -> None:
        self._inspection = inspection
        self._engine = engine
        self._owner = owner
        self._asked: dict[int, _Asked] = {}
        """What workers were asked and have not told yet, by question."""

    @property
    def are_open(self) -> bool:
        """Whether a worker was asked that has not answered yet."""
        return bool(self._asked)

    def look(self, now: float) -> None:
        """Answers what is asked, at once or when the worker has told."""
        for question, job_id in self._inspection.stack_questions(self._owner):
            if question not in self._asked:
                self._take(question, job_id, now)

    def step(self, now: float) -> float:
        """Passes on what workers have told; returns the seconds until the next step."""
        for question, asked in tuple(self._asked.items()):
            stack = self._engine.ask(lambda processes, pid=asked.pid: _stack_told(pid, processes))
            if stack is None and now < asked.until:
                continue
            del self._asked[question]
            self._inspection.answer_stack(question, stack or _no_answer(asked.job_id))
        return _ANSWER_PAUSE_S if self._asked else math.inf

    def _take(self, question: int, job_id: int, now: float) -> None:
        # Read from outside if that can be: a signal ends what some C code waits for.
        pid = self._engine.ask(lambda processes: self._find_job(job_id, processes))
        sampled = None if pid is None else sampled_stack(pid)
        # Once more: it may be over by now, and the worker be at another job.
        pid = self._engine.ask(
            lambda processes: self._find_job(job_id, processes, asks=sampled is None)
        )
        if pid is None:
            self._inspection.answer_stack(question, f"job {job_id} does not run any more")
        elif sampled is not None:
            self._inspection.answer_stack(question, sampled)
        else:
            self._asked[question] = _Asked(job_id, pid, now + STACK_S)

    def _find_job(
        self, job_id: int, processes: Mapping[int, WorkerProcess], *, asks: bool = False
    ) -> int | None:
        """Returns the pid of the worker that runs the job, which is asked where it is if so."""
        for slot in self._engine.pool.slots:
            process = processes.get(slot.number)
            if process is None or not process.running:
                continue
            job, _, _ = progress_of(slot, process)
            if job is not None and job.id == job_id:
                if asks:
                    process.ask_stack()
                return process.pid
        return None


def _stack_told(pid: int, processes: Mapping[int, WorkerProcess]) -> str | None:
    stacks = (process.channel.stack for process in processes.values() if process.pid == pid)
    return next(stacks, None) or None


def _no_answer(job_id: int) -> str:
    return (
        f"job {job_id} did not answer within {STACK_S:g} s: it is in C code, or waits for the GIL; "
        "with py-spy installed beside the supervisor its stack can be read from outside"
    )


# -- read from outside ----------------------------------------------------------------------------


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
        frames = list(
            itertools.takewhile(lambda each: each.filename not in _OWN_FILES, thread.frames)
        )
        places = [(each.filename, each.line, each.name, None) for each in reversed(frames)]
        text = "".join(traceback.format_list(places))
        if len(frames) < len(thread.frames):
            job = text
        else:
            others.append(f"Thread {thread.thread_name or '?'}:\n{text}")
    return clean_text("".join([job, *others]).encode(), _BYTES_MAX) if job else None
