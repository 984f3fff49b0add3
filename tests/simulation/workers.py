"""Worker processes in virtual time: they begin what they were sent, and end as chance has it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from simulation.schedule import Schedule
from support.checking import Execution
from support.pool_world import FakeWorker
from synk.claim import ClaimedJob
from synk.core import messages as m
from synk.failure import AttemptError, Cause
from synk.job import Job
from synk.runtime.ipc.setup import Setup

TIMEOUT_S: Final = 14.0
GRACE_S: Final = 1.0
KILL_S: Final = 0.3
SLOTS: Final = 2
CORES: Final = 2
MEMORY: Final = 8
"""What jobs of a supervisor may take together: cores, and GiB of memory."""
HEAVY: Final = {"heavy": (2, 0), "roomy": (1, 5)}
"""Kinds that take more of it than others, which take a core and no memory."""
OWN_END: Final = "completes itself"
"""The name of jobs that end in a transaction of their own, and may fail or crash after that."""
DURATIONS_S: Final = ((0.005, 0.3), (1.0, 4.0), (6.0, 13.0))
"""Most jobs are short; some run for longer than a lease."""


class Process:
    """One worker process, and its channel, as an engine holds it."""

    running: Final = 0
    """Nothing, as far as its memory is asked for."""
    pid: Final = 0

    def __init__(self, workers: Workers, slot: int) -> None:
        self.worker = FakeWorker()
        self.channel = self
        self._workers = workers
        self._slot = slot
        self.begin_until = float("inf")

    @property
    def is_ready(self) -> bool:
        return self.worker.ready

    @property
    def has_more_done(self) -> bool:
        return bool(self.worker.measures)

    def send(self, first: int, jobs: Sequence[ClaimedJob], _cpus: Sequence[int] = ()) -> None:
        worker = self.worker
        assert worker.ready
        assert first == worker.expected_number, "batches overtook each other"
        worker.waiting.extend(enumerate(jobs, first))
        worker.expected_number += len(jobs)
        self._workers.sent(self._slot)

    def may_begin_until(self, time_s: float) -> None:
        self.begin_until = time_s

    def recall(self) -> tuple[m.Report, int]:
        taken = self.worker.take_back()
        return self.worker.report(), taken

    def report(self) -> m.Report:
        return self.worker.report()

    def ask(self, number: int, request: m.Request) -> None:
        self._workers.asked(self._slot)

    def dismiss(self) -> None:
        assert self.worker.running is None
        self._workers.dismissed(self._slot)


class Workers:
    """The processes of one supervisor, in place of `WorkerSet`.

    They go on whether the supervisor stands still or not.

    Args:
        setup: what all of them are told.
        selector: the engine's: it is woken where they have something to tell.
        tell: takes what happened to them.
        schedule: the time of the world, by which processes run.
        chance: decides what becomes of jobs.
        clock: the supervisor's own clock.
        complete: what a job does that completes itself; says whether it still may.
    """

    def __init__(
        self,
        _config: object,
        setup: Setup,
        selector: Any,
        _facts: object,
        *,
        tell: Callable[[m.Event], None],
        schedule: Schedule,
        chance: Random,
        clock: Callable[[], float],
        complete: Callable[[ClaimedJob], bool],
        **_: object,
    ) -> None:
        self._schedule = schedule
        self._chance = chance
        self._owner = setup.client_id
        self._clock = clock
        self._tell = tell
        self._wake: Callable[[], None] = selector.wake
        selector.call_ready = self._tell_news
        self._complete = complete
        self.processes: dict[int, Process] = {}
        self.problem: str | None = None
        self.is_loaded = False
        self._exits: dict[int, m.Exit] = {}
        """Of processes that are dead, which the supervisor has not noticed."""
        self._born: list[int] = []
        self._with_news: set[int] = set()
        """Slots whose worker has finished something since."""
        self.executions: list[Execution] = []
        self.has_been_full = False
        """Whether jobs with a weight had all the cores, with those beside them."""
        self._places: dict[int, int] = {}
        """Of each slot that runs a job, the place of that in `executions`."""

    # -- the supervisor's side --------------------------------------------------------------------

    def start(self) -> None:
        self.is_loaded = True
        self._tell(m.Tick())

    def kill_all(self) -> None:
        self.die_all()

    def close(self) -> None:
        self.processes.clear()

    def spawn(self, slot: int) -> None:
        assert slot not in self.processes
        self.processes[slot] = Process(self, slot)
        self._after(slot, 0.02, 0.2, self._be_born)

    def sent(self, slot: int) -> None:
        self._after(slot, 0.0, 0.002, self._begin_next)

    def asked(self, slot: int) -> None:
        if self._chance.random() < 0.7:
            self._after_job(slot, 0.0, GRACE_S / 2, self._obey)

    def dismissed(self, slot: int) -> None:
        self._after(slot, 0.001, 0.1, self._leave)

    def kill(self, command: m.Kill) -> None:
        assert not self.processes[command.slot].worker.waiting, "killed with jobs that may begin"
        self._after(command.slot, 0.001, KILL_S, self._die_of_kill)

    def _tell_news(self) -> None:
        """Tells the pool what the workers have done."""
        born, self._born = self._born, []
        for slot in born:
            if slot in self.processes:
                self.processes[slot].worker.ready = True
                self._tell(m.WorkerReady(slot))
        told, self._with_news = sorted(self._with_news), set()
        for slot in told:
            if slot in self.processes:
                self._tell(m.Reported(slot, self.processes[slot].report()))
        for slot in list(self._exits):
            exit_ = self._exits.pop(slot)
            report, taken = self.processes.pop(slot).recall()
            self._tell(m.WorkerExited(slot, report, taken, exit_))

    # -- the processes ----------------------------------------------------------------------------

    def _after(self, slot: int, least: float, most: float, what: Callable[[int], None]) -> None:
        """Has something happen to the present process of a slot, if it is still alive then."""
        process = self.processes[slot]

        def happen() -> None:
            if self.processes.get(slot) is process and slot not in self._exits:
                what(slot)

        self._schedule.after(self._chance.uniform(least, most), happen)

    def _after_job(self, slot: int, least: float, most: float, what: Callable[[int], None]) -> None:
        """Has something happen to the job that a slot runs now, if it still runs then."""
        running = self.processes[slot].worker.running

        def happen(slot: int) -> None:
            if running is not None and self.processes[slot].worker.running is running:
                what(slot)

        self._after(slot, least, most, happen)

    def _be_born(self, slot: int) -> None:
        self._born.append(slot)
        self._wake()

    def _begin_next(self, slot: int) -> None:
        worker = self.processes[slot].worker
        if worker.running is not None or not worker.waiting:
            return
        if self._clock() > self.processes[slot].begin_until:
            self._after(slot, 0.05, 0.05, self._begin_next)
            return
        worker.running = worker.waiting.popleft()
        worker.started_s = self._clock()
        self._weigh()
        self._note(slot, worker)
        how, seconds = self._fate()
        if how != "hang":
            self._after_job(slot, seconds, seconds, self.crash if how == "crash" else self._end)

    def _weigh(self) -> None:
        """Notes how much runs; what is to be killed runs until it is dead."""
        kinds = [
            process.worker.running[1].kind
            for slot, process in self.processes.items()
            if process.worker.running is not None and slot not in self._exits
        ]
        weights = [HEAVY.get(kind, (1, 0)) for kind in kinds]
        cores = sum(weight[0] for weight in weights)
        self.has_been_full |= cores == CORES and not HEAVY.keys().isdisjoint(kinds)
        for taken, there in ((0, CORES), (1, MEMORY)):
            assert sum(weight[taken] for weight in weights) <= there, f"too much runs: {kinds}"

    def _note(self, slot: int, worker: FakeWorker) -> None:
        assert worker.running is not None
        claimed = worker.running[1]
        self._places[slot] = len(self.executions)
        self.executions.append(
            Execution(
                job_id=claimed.id,
                attempt=claimed.attempt,
                claim_seq=claimed.claim_seq,
                owner=self._owner,
                began=self._schedule.now,
                seen=float("inf"),
                is_whole=False,
            )
        )

    def _fate(self) -> tuple[str, float]:
        if self._chance.random() < 0.02:
            return "hang", 0.0
        how = "crash" if self._chance.random() < 0.05 else "end"
        least, most = self._chance.choices(DURATIONS_S, weights=(70, 20, 10))[0]
        return how, self._chance.uniform(least, most)

    def _end(self, slot: int) -> None:
        reply = None
        running = self.processes[slot].worker.running
        if running is not None and running[1].name == OWN_END:
            if not self._complete(running[1]):
                self._finish(slot, m.Reply(error=self._error(slot, Cause.EXCEPTION)))
                return
            self._seal(slot, is_whole=True)
            if self._chance.random() < 0.2:
                self.crash(slot)
                return
        if self._chance.random() < 0.2:
            soon = self._chance.random() < 0.8
            retry_at = dt.datetime(2001, 1, 1, tzinfo=dt.timezone.utc) if soon else None
            reply = m.Reply(error=self._error(slot, Cause.EXCEPTION), retry_at=retry_at)
        elif running is not None and self._chance.random() < 0.1:
            reply = self._choice(slot, running[1])
        self._finish(slot, reply)

    def _choice(self, slot: int, job: ClaimedJob) -> m.Reply:
        """What a handler may have decided."""
        if self._chance.random() < 0.2:
            return m.Reply(error=self._error(slot, Cause.CANCELLED), gave_up=True)
        delay_s = self._chance.choice((0.0, 0.0, 1.0, 3.0))
        return m.Reply(snooze_s=delay_s, snoozes=Job(job, None, self._owner).snoozes + 1)

    def _obey(self, slot: int) -> None:
        self._finish(slot, m.Reply(error=self._error(slot, Cause.CANCELLED), cancelled=True))

    def _error(self, slot: int, cause: Cause) -> str:
        running = self.processes[slot].worker.running
        assert running is not None
        return AttemptError(attempt=running[1].attempt, error="as asked", cause=cause).to_json()

    def _finish(self, slot: int, reply: m.Reply | None) -> None:
        self._seal(slot, is_whole=True)
        worker = self.processes[slot].worker
        assert worker.running is not None
        worker.done, worker.running = worker.running[0], None
        took_us = round((self._clock() - worker.started_s) * 1e6)
        worker.measures.append((took_us, took_us, 0, 0))
        if reply is not None:
            worker.replies[worker.done] = reply
        self._with_news.add(slot)
        self._wake()
        self._after(slot, 0.0, 0.001, self._begin_next)

    def crash(self, slot: int) -> None:
        self.die(slot, m.Exit(code=-11, signal="SIGSEGV", pid=slot))

    def _die_of_kill(self, slot: int) -> None:
        self.die(slot, m.Exit(code=-9, signal="SIGKILL", pid=slot))

    def _leave(self, slot: int) -> None:
        self.die(slot, m.Exit(code=0, pid=slot))

    def die(self, slot: int, exit_: m.Exit) -> None:
        if slot in self.processes and slot not in self._exits:
            self._seal(slot, is_whole=False)
            self._exits[slot] = exit_
            self._wake()

    def die_all(self) -> None:
        """Their supervisor is gone: the kernel sees to it that they are too."""
        for slot in list(self.processes):
            self.die(slot, m.Exit(code=-9, signal="SIGKILL", pid=slot))

    def _seal(self, slot: int, *, is_whole: bool) -> None:
        place = self._places.pop(slot, None)
        if place is not None:
            self.executions[place] = replace(
                self.executions[place], seen=self._schedule.now, is_whole=is_whole
            )

    def busy_slots(self) -> list[int]:
        return [slot for slot in self._places if slot not in self._exits]
