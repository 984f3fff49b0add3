"""Worker processes in virtual time: they begin what they were sent, and end as chance has it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Final

from simulation.schedule import Schedule
from support.checking import Execution
from support.pool_world import FakeWorker, World
from synk.claim import ClaimedJob
from synk.core import messages as m
from synk.core.limits import QueueLimits, Recycling
from synk.failure import AttemptError, Cause

TIMEOUT_S: Final = 14.0
GRACE_S: Final = 1.0
KILL_S: Final = 0.3
SLOTS: Final = 2
OWN_END: Final = "completes itself"
"""The name of jobs that end in a transaction of their own, and may fail or crash after that."""
DURATIONS_S: Final = ((0.005, 0.3), (1.0, 4.0), (6.0, 13.0))
"""Most jobs are short; some run for longer than a lease."""


class Workers(World):
    """The slots of one supervisor. Their processes go on whether it stands still or not.

    Args:
        schedule: the time of the world, by which processes run.
        clock: the supervisor's own clock.
        settle: takes what is over.
        wake: has the supervisor look at its workers soon.
        complete: what a job does that completes itself; says whether it still may.
    """

    def __init__(
        self,
        schedule: Schedule,
        chance: Random,
        owner: str,
        *,
        clock: Callable[[], float],
        settle: Callable[[m.Settle], None],
        wake: Callable[[], None],
        complete: Callable[[ClaimedJob], bool],
    ) -> None:
        self._schedule = schedule
        self._chance = chance
        self._owner = owner
        self._clock = clock
        self._hand_on = settle
        self._wake = wake
        self._complete = complete
        self._exits: dict[int, m.Exit] = {}
        """Of processes that are dead, which the supervisor has not noticed."""
        self._born: list[int] = []
        self.executions: list[Execution] = []
        self._places: dict[int, int] = {}
        """Of each slot that runs a job, the place of that in `executions`."""
        super().__init__(
            slots=SLOTS,
            queues={"default": QueueLimits(max_workers=100, timeout_s=TIMEOUT_S)},
            recycling=Recycling(cancel_grace_s=GRACE_S),
        )

    # -- the supervisor's side --------------------------------------------------------------------

    def turn(self) -> None:
        """Tells the pool what the workers have done."""
        self.now = self._clock()
        born, self._born = self._born, []
        for slot in born:
            if slot in self.workers:
                self.ready(slot)
        for slot in list(self._exits):
            self.exit(slot, self._exits.pop(slot))
        self.look()

    def handle(self, event: m.Event) -> None:
        self.now = self._clock()
        super().handle(event)

    def _settle(self, command: m.Settle) -> None:
        self._hand_on(command)

    def _perform(self, command: m.Command) -> None:
        super()._perform(command)
        match command:
            case m.Spawn():
                self._after(command.slot, 0.02, 0.2, self._be_born)
            case m.Send():
                self._after(command.slot, 0.0, 0.002, self._begin_next)
            case m.Kill():
                self._after(command.slot, 0.001, KILL_S, self._die_of_kill)
            case m.Dismiss():
                self._after(command.slot, 0.001, 0.1, self._leave)
            case m.Ask() if self._chance.random() < 0.7:
                self._after_job(command.slot, 0.0, GRACE_S / 2, self._obey)
            case _:
                pass

    # -- the processes ----------------------------------------------------------------------------

    def _after(self, slot: int, least: float, most: float, what: Callable[[int], None]) -> None:
        """Has something happen to the present process of a slot, if it is still alive then."""
        worker = self.workers[slot]

        def happen() -> None:
            if self.workers.get(slot) is worker and slot not in self._exits:
                what(slot)

        self._schedule.after(self._chance.uniform(least, most), happen)

    def _after_job(self, slot: int, least: float, most: float, what: Callable[[int], None]) -> None:
        """Has something happen to the job that a slot runs now, if it still runs then."""
        running = self.workers[slot].running

        def happen(slot: int) -> None:
            if running is not None and self.workers[slot].running is running:
                what(slot)

        self._after(slot, least, most, happen)

    def _be_born(self, slot: int) -> None:
        self._born.append(slot)
        self._wake()

    def _begin_next(self, slot: int) -> None:
        worker = self.workers[slot]
        if worker.running is not None or not worker.waiting:
            return
        self.now = self._clock()
        self.begin(slot)
        self._note(slot, worker)
        how, seconds = self._fate()
        if how != "hang":
            self._after_job(slot, seconds, seconds, self.crash if how == "crash" else self._end)

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
        running = self.workers[slot].running
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
        self._finish(slot, reply)

    def _obey(self, slot: int) -> None:
        self._finish(slot, m.Reply(error=self._error(slot, Cause.CANCELLED), cancelled=True))

    def _error(self, slot: int, cause: Cause) -> str:
        running = self.workers[slot].running
        assert running is not None
        return AttemptError(attempt=running[1].attempt, error="as asked", cause=cause).to_json()

    def _finish(self, slot: int, reply: m.Reply | None) -> None:
        self.now = self._clock()
        self._seal(slot, is_whole=True)
        self.finish(slot, reply, tell=False)
        self._wake()
        self._after(slot, 0.0, 0.001, self._begin_next)

    def crash(self, slot: int) -> None:
        self.die(slot, m.Exit(code=-11, signal="SIGSEGV", pid=slot))

    def _die_of_kill(self, slot: int) -> None:
        self.die(slot, m.Exit(code=-9, signal="SIGKILL", pid=slot))

    def _leave(self, slot: int) -> None:
        self.die(slot, m.Exit(code=0, pid=slot))

    def die(self, slot: int, exit_: m.Exit) -> None:
        if slot in self.workers and slot not in self._exits:
            self._seal(slot, is_whole=False)
            self._exits[slot] = exit_
            self._wake()

    def die_all(self) -> None:
        """Their supervisor is gone: the kernel sees to it that they are too."""
        for slot in list(self.workers):
            self.die(slot, m.Exit(code=-9, signal="SIGKILL", pid=slot))

    def _seal(self, slot: int, *, is_whole: bool) -> None:
        place = self._places.pop(slot, None)
        if place is not None:
            self.executions[place] = replace(
                self.executions[place], seen=self._schedule.now, is_whole=is_whole
            )

    def busy_slots(self) -> list[int]:
        return [slot for slot in self._places if slot not in self._exits]
