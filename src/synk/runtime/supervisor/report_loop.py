"""What people, and the storage, are told of a running supervisor's jobs.

`look` runs in the engine's loop, where the processes and the pool may be touched, and only reads
memory and /proc. `ReportLoop` is a thread of its own: about once a second while something runs it
stores what all jobs have noted with one statement, and what the workers do with another. Where a
running job is in its code is looked up on request.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from synk import telemetry
from synk.claim import Fence
from synk.errors import SynkError
from synk.row import Progress
from synk.runtime.ipc import linux
from synk.runtime.supervisor.backoff import Backoff
from synk.runtime.supervisor.jitter import jittered
from synk.runtime.supervisor.stacks import sampled_stack
from synk.status import ClientStatus, JobProgress, RecentError, SlotStatus

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from synk.claim import ClaimedJob
    from synk.core.pool import Pool
    from synk.core.slot import Slot
    from synk.runtime.supervisor.backoff import StorageLink
    from synk.runtime.supervisor.engine import Engine
    from synk.runtime.supervisor.worker_process import WorkerProcess
    from synk.storage.base import Storage
    from synk.telemetry import Telemetry

WATCH_S: Final = 1.0
"""Between two looks while something runs."""

IDLE_S: Final = 5.0
"""Between two reports while nothing does."""

FORGET_S: Final = 3600.0
"""Between two removals of what nobody looks at any more."""

ERRORS_KEPT: Final = 5

STACK_S: Final = 2.0
"""How long a job may take to answer where it is: it does so between two Python instructions."""

_PATIENCE_S: Final = 0.1
"""From an announcement to the look that serves it and all others that come meanwhile."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """What runs at one moment."""

    slots: list[SlotStatus]
    progress: list[JobProgress]
    """Only what is new since the last snapshot."""


class Watch:
    """Looks at the workers; all in the engine's loop."""

    def __init__(self) -> None:
        self._cpu: dict[int, tuple[float, float]] = {}
        """Of each process at the last look: when it was, and the CPU seconds used until then."""
        self._noted: dict[Fence, tuple[str | None, str | None]] = {}

    def look(self, processes: Mapping[int, WorkerProcess], pool: Pool) -> Snapshot:
        """Returns what the workers do, and what their jobs have noted since the last call."""
        slots: list[SlotStatus] = []
        found: list[JobProgress] = []
        cpu: dict[int, tuple[float, float]] = {}
        noted: dict[Fence, tuple[str | None, str | None]] = {}
        for slot in pool.slots:
            status = slot_status(slot, time.monotonic())
            process = processes.get(slot.number)
            if process is not None and process.pid:
                job, progress, checkpoint = _progress_of(slot, process)
                status = self._with_usage(status, process.pid, cpu)
                if job is not None:
                    status = dataclasses.replace(status, progress=Progress.from_json(progress))
                    fence = Fence(job.id, job.attempt, job.claim_seq)
                    noted[fence] = (progress, checkpoint)
                    found += self._news(fence, progress, checkpoint)
            slots.append(status)
        self._cpu, self._noted = cpu, noted
        return Snapshot(slots, found)

    def _with_usage(
        self, status: SlotStatus, pid: int, cpu: dict[int, tuple[float, float]]
    ) -> SlotStatus:
        now, used_s = cpu[pid] = time.monotonic(), linux.cpu_seconds(pid)
        before = self._cpu.get(pid)
        share = None
        if before is not None and now > before[0]:
            share = round(max(0.0, used_s - before[1]) / (now - before[0]), 3)
        return dataclasses.replace(
            status, pid=pid, cpu_share=share, rss_bytes=linux.resident_bytes(pid)
        )

    def _news(
        self, fence: Fence, progress: str | None, checkpoint: str | None
    ) -> list[JobProgress]:
        before = self._noted.get(fence, (None, None))
        if (progress, checkpoint) == before:
            return []
        changed = checkpoint if checkpoint != before[1] else None
        return [JobProgress(fence, progress, changed)]


def slot_status(slot: Slot, now: float) -> SlotStatus:
    """Returns what the pool knows of a slot, at the time *now*."""
    held = next(iter(tuple(slot.in_flight)), None)
    if held is None:
        return SlotStatus(slot=slot.number, pid=slot.pid)
    job = held.job
    since = slot.started_s if slot.running else slot.progress_at
    return SlotStatus(
        slot=slot.number,
        pid=slot.pid,
        job_id=job.id,
        attempt=job.attempt,
        kind=job.kind,
        name=job.name,
        queue=job.queue,
        seconds=max(0.0, now - since),
    )


def _progress_of(
    slot: Slot, process: WorkerProcess
) -> tuple[ClaimedJob | None, str | None, str | None]:
    """Returns the job that runs, which may be ahead of what the pool knows, and its progress."""
    number, progress, checkpoint = process.progress()
    job = slot.job_of(number)
    return (None, None, None) if job is None else (job, progress, checkpoint)


class ReportLoop:
    """The thread that tells the storage what runs, and answers where it is."""

    def __init__(
        self, storage: Storage, engine: Engine, status: ClientStatus, facts: Telemetry
    ) -> None:
        self._storage = storage
        self._engine = engine
        self._status = status
        self._watch = Watch()
        self._backoff = Backoff("reporting", facts)
        self._errors: deque[tuple[float, telemetry.AttemptFailed]] = deque(maxlen=ERRORS_KEPT)
        self._facts = facts
        self._asked = threading.Event()
        self._stopping = False
        self._was_busy = False
        self._report_at = 0.0
        self._forget_at = time.monotonic() + WATCH_S

    @property
    def _owner(self) -> UUID:
        return self._status.id

    def share(self, link: StorageLink) -> None:
        """Has other loops hear when this one gets through to the storage, and the reverse."""
        link.join(self._backoff, self._asked.set)

    def look_now(self) -> None:
        """Somebody has asked for something, perhaps where a job is."""
        self._asked.set()

    def stop(self) -> None:
        """Ends `run`, with a last report that says so."""
        self._stopping = True
        self._asked.set()

    def run(self) -> None:
        """Watches until `stop`."""
        self._facts.subscribe(self._note_error, successes=False)
        while not self._stopping:
            pause_s = WATCH_S
            try:
                self._pass(time.monotonic())
                self._backoff.succeeded(time.monotonic())
            except SynkError as error:
                pause_s = self._backoff.failed(error, time.monotonic())
            self._wait(pause_s)
        self._facts.unsubscribe(self._note_error)
        self._say_stopped()

    def _wait(self, pause_s: float) -> None:
        """Waits for a question, or *pause_s* seconds; never long enough to miss the next report."""
        deadline = time.monotonic() + pause_s
        if self._asked.wait(jittered(pause_s, 0.1)) and not self._stopping:
            time.sleep(min(_PATIENCE_S, max(0.0, deadline - time.monotonic())))
        self._asked.clear()

    def _pass(self, now: float) -> None:
        """Does what is due."""
        self._answer_questions()
        is_busy = any(slot.in_flight for slot in self._engine.pool.slots)
        if is_busy or self._was_busy or now >= self._report_at:
            self._report()
            self._report_at = now + IDLE_S
        self._was_busy = is_busy
        if now >= self._forget_at:
            self._forget_at = now + FORGET_S
            self._storage.forget_clients()

    def _report(self) -> None:
        """Stores progress and status."""
        snapshot = self._engine.ask(
            lambda processes: self._watch.look(processes, self._engine.pool)
        )
        if snapshot is None:
            return
        if snapshot.progress:
            self._storage.save_progress(self._owner, snapshot.progress)
        self._storage.report_client(
            dataclasses.replace(self._status, slots=snapshot.slots, errors=self._recent_errors())
        )

    def _say_stopped(self) -> None:
        try:
            self._storage.report_client(
                dataclasses.replace(self._status, errors=self._recent_errors(), stopped=True)
            )
        except SynkError as error:
            self._backoff.failed(error, time.monotonic())

    # -- recent errors ----------------------------------------------------------------------------

    def _note_error(self, fact: object) -> None:
        if isinstance(fact, telemetry.AttemptFailed):
            self._errors.append((time.monotonic(), fact))

    def _recent_errors(self) -> list[RecentError]:
        now = time.monotonic()
        return [
            RecentError(
                job_id=fact.ended.job.id,
                attempt=fact.ended.job.attempt,
                kind=fact.ended.job.kind,
                error=telemetry.headline(fact.ended.error),
                seconds=now - at,
            )
            for at, fact in tuple(self._errors)
        ]

    # -- where a job is ---------------------------------------------------------------------------

    def _answer_questions(self) -> None:
        for question, job_id in self._storage.stack_questions(self._owner):
            self._storage.answer_stack(question, self._stack_of(job_id))

    def _stack_of(self, job_id: int) -> str:
        # Read from outside if that can be: a signal ends what some C code waits for.
        pid = self._engine.ask(lambda processes: self._find_job(job_id, processes))
        sampled = None if pid is None else sampled_stack(pid)
        pid = self._engine.ask(
            lambda processes: self._find_job(job_id, processes, asks=sampled is None)
        )
        if pid is None:
            return f"job {job_id} does not run any more"
        if sampled is not None:
            return sampled
        deadline = time.monotonic() + STACK_S
        while time.monotonic() < deadline and not self._stopping:
            stack = self._engine.ask(lambda processes: _stack_told(pid, processes))
            if stack:
                return stack
            time.sleep(0.02)
        return (
            f"job {job_id} did not answer within {STACK_S:g} s: it is in C code, or waits for the "
            "GIL; with py-spy installed beside the supervisor its stack can be read from outside"
        )

    def _find_job(
        self, job_id: int, processes: Mapping[int, WorkerProcess], *, asks: bool = False
    ) -> int | None:
        """Returns the pid of the worker that runs the job, which is asked where it is if so."""
        for slot in self._engine.pool.slots:
            process = processes.get(slot.number)
            if process is None or not process.running:
                continue
            job, _, _ = _progress_of(slot, process)
            if job is not None and job.id == job_id:
                if asks:
                    process.ask_stack()
                return process.pid
        return None


def _stack_told(pid: int, processes: Mapping[int, WorkerProcess]) -> str | None:
    return next((process.stack for process in processes.values() if process.pid == pid), None)
