"""The pool's decisions: which slot gets which job, who is late, who is killed, what a death means.

A state machine without I/O. `Pool.handle` takes an event and the time and returns commands; the
shell (`synk.runtime.supervisor.engine`) performs them and reports back. What holds, whatever the
order of events:

* every claimed job is settled exactly once, or is still held here;
* a death is blamed on the one job that ran in that process; jobs behind it go to other workers;
* a process is killed only after what it had not begun was taken back, so that the kill cannot hit
  the job after the one it is meant for;
* what a worker has finished counts, also if it was killed a moment later.

A little longer than other files: what is shared out to others would only be looked for there.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from synk.core import messages
from synk.core.backlog import Backlog
from synk.core.dispatch import Dispatch
from synk.core.estimates import Estimates
from synk.core.held_bytes import HeldBytes
from synk.core.held_claims import HeldClaims
from synk.core.lateness import (
    is_deaf,
    is_due_for_recycling,
    is_late,
    reason_to_kill,
    stall_at,
    times_of,
)
from synk.core.ledger import Ledger
from synk.core.limits import Limits
from synk.core.messages import KillReason, Request
from synk.core.ownership import fence_of, one_of
from synk.core.slot import Slot, SlotInput, SlotState
from synk.core.starts import Starts
from synk.core.weighted_dispatch import WeightedDispatch

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob, Fence
    from synk.config import EngineConfig
    from synk.core.dispatch import Urgent, WeightedDemand
    from synk.core.limits import QueueLimits
    from synk.core.slot import HeldJob
    from synk.core.weights import Budget
    from synk.limit import Permit


class Pool:
    """All slots of one supervisor.

    Args:
        engine: how many slots, when their processes are replaced, what jobs that wait may weigh.
        queues: what holds for each queue.
        limited: the kinds whose workers may name limits of their own, which are on the status pages
            of the workers that run them; None: all.
        budget: what the jobs of some kinds weigh, and what there is; None: no kind weighs anything.
    """

    def __init__(
        self,
        engine: EngineConfig,
        queues: Mapping[str, QueueLimits],
        *,
        limited: Container[str] | None = None,
        budget: Budget | None = None,
    ) -> None:
        self._limits = Limits(dict(queues), engine, limited, budget and budget.weights)
        self.slots = [Slot(number, self._limits) for number in range(engine.processes)]
        self.backlog = Backlog(queues, budget and budget.parts)
        self.keyed = self.backlog.keyed
        self.estimates = Estimates()
        self._ledger = Ledger(self._limits, self.estimates)
        known = self.slots, self._limits.queues, self.backlog, self.estimates
        self._dispatch = WeightedDispatch(*known, budget) if budget else Dispatch(*known)
        self._held_bytes = HeldBytes(self.slots, queues, engine.max_held_bytes)
        self.held_claims = HeldClaims(self.slots, self.backlog, self._held_bytes)
        self._starts = Starts()
        self.draining = False
        self.fenced = False
        """The lease is not renewed: nothing runs, and nothing is given out."""
        self.paused = frozenset[str]()
        """The queues of which nothing is given out."""
        self.claims = 0
        """Claims taken in so far."""
        self._drain_deadline: float | None = None
        self._commands: list[messages.Command] = []

    # -- the interface of the shell -----------------------------------------------------------

    def handle(self, event: messages.Event, now: float) -> list[messages.Command]:
        """Takes one event; returns what is to be done about it, in order.

        Raises:
            IllegalTransition: the event cannot happen in the slot's state.
        """
        self._METHOD_OF[type(event)](self, event, now)
        if self.held_claims.late_at <= now:
            # They go back: the storage gives them to nobody any more, and lets them expire.
            waiting, slots = self.held_claims.too_late(now)
            self._ledger.release(waiting)
            self._recall(*slots)
        if self.keyed:
            self._let_in(now)
        self._give_out(now)
        self._look_at_slots(now)
        self._ledger.release(self._dispatch.stuck(now))
        return self._flushed()

    def next_deadline(self) -> float | None:
        """Returns when `Tick` is due, on the monotonic clock; None: nothing is."""
        ends_at = self._drain_deadline
        times = [time for slot in self.slots for time in times_of(slot, drain_deadline=ends_at)]
        times += self._dispatch.stuck_times()
        if self.held_claims.late_at < inf:
            times.append(self.held_claims.late_at)
        return min(times, default=None)

    def demand(self, rooms: Mapping[str, int]) -> dict[str, int]:
        """Returns how many jobs of each queue are wanted now; queues that want none are absent.

        Args:
            rooms: as `rooms` says.
        """
        if self.draining or self.fenced:
            return {}
        able = [name for name, room in rooms.items() if room > 0 and name not in self.paused]
        return {name: count for name in able if (count := self._dispatch.wanted(name)) > 0}

    def rooms(self) -> dict[str, int]:
        """Returns how many bytes of jobs of each queue may be claimed now."""
        return {name: self._held_bytes.room(name) for name in self.backlog.queues}

    def urgent(self) -> dict[str, Urgent]:
        """Returns what is wanted beyond that, of jobs that would overtake those at hand."""
        if self.draining or self.fenced:
            return {}
        names = self.backlog.queues.keys() - self.paused
        return {name: more for name in names if (more := self._dispatch.urgent(name)) is not None}

    def weighted_demand(self) -> dict[str, WeightedDemand]:
        """Returns what is wanted of jobs with a weight."""
        return {} if self.draining or self.fenced else self._dispatch.weighted()

    def held(self) -> list[Fence]:
        """Returns the claims whose end is not told yet."""
        return [fence_of(job) for job in self.held_claims]

    def abandon(self) -> messages.Settle:
        """Gives up every job that is held; for a shell whose processes are all dead.

        With what was over and not told yet, where the pool itself has failed in between.
        """
        self._ledger.release(self.backlog.emptied())
        for slot in self.slots:
            self._ledger.abandon(slot)
        return self._ledger.settled() or messages.Settle()

    @property
    def is_crowded(self) -> bool:
        """Whether jobs wait and no worker that takes jobs is without one."""
        serving = [slot for slot in self.slots if slot.state is SlotState.SERVING]
        return self.backlog.count > 0 and all(slot.in_flight for slot in serving)

    @property
    def is_stopped(self) -> bool:
        """Whether a drain is complete: no job is held and no process is left."""
        return (
            self.draining
            and not self.backlog.count
            and all(slot.state is SlotState.VACANT for slot in self.slots)
        )

    def job_of(self, slot: int, number: int) -> ClaimedJob | None:
        """Returns the job in flight in *slot* that has this number, if there is one."""
        return self.slots[slot].job_of(number)

    def give_back_permits(self, now: float) -> list[Permit]:
        """Gives up the permits that were free for long, and returns them."""
        given = self.keyed.to_give_back(now)
        self._let_in(now)
        return given

    # -- events -------------------------------------------------------------------------------

    def _on_claimed(self, event: messages.Claimed, now: float) -> None:
        self.claims += 1
        if event.permits:
            self.keyed.granted(event.permits)
        self._dispatch.found_none(event.none_of)
        if self.draining or self.fenced:
            self._release_new(event.jobs)
            return
        jobs = event.jobs
        asked_at = now if event.asked_at is None else event.asked_at
        if former := self.held_claims.take(jobs, asked_at):
            # The storage has lost the earlier claims, as in a fail-over. Two attempts of one job
            # never run at one time: the former one is ended, the other is for later.
            self._on_disowned(messages.Disowned([fence_of(job) for job in former]), now)
            twice = {job.id for job in former}
            self._release_new([job for job in jobs if job.id in twice])
            jobs = [job for job in jobs if job.id not in twice]
            self.held_claims.take(jobs, asked_at)
        if self.paused and (unwanted := [job for job in jobs if job.queue in self.paused]):
            self._ledger.release(unwanted)
            jobs = [job for job in jobs if job.queue not in self.paused]
        if event.keys:
            jobs = self.keyed.arrived(jobs, event.keys, now)
        self._recall(*self._dispatch.overtaken(jobs))
        self.backlog.extend(jobs)

    def _release_new(self, jobs: Iterable[ClaimedJob]) -> None:
        """Gives back what has just come, of which an earlier claim may be held still."""
        self._ledger.release(jobs)
        self.held_claims.doubt()

    def _on_reported(self, event: messages.Reported, now: float) -> None:
        self._ledger.take_report(self.slots[event.slot], event.report, now)

    def _on_ready(self, event: messages.WorkerReady, now: float) -> None:
        slot = self.slots[event.slot]
        slot.became_ready(event.pid, now)
        if slot.state is SlotState.SERVING:
            self._starts.succeeded()

    def _on_recalled(self, event: messages.Recalled, now: float) -> None:
        slot = self.slots[event.slot]
        self._ledger.take_report(slot, event.report, now)
        was_deaf = is_deaf(slot, now)
        self._put_back(slot.took_back(event.taken), now)
        reason = reason_to_kill(
            slot, now, is_fenced=self.fenced, drain_deadline=self._drain_deadline
        )
        if was_deaf:
            reason = KillReason.DEAF
        if reason is not None:
            self._kill(slot, reason)
            return
        slot.move(SlotInput.RECALLED)
        if slot.in_flight and slot.in_flight[0].cancel_requested and slot.cancel_at is None:
            self._ask(slot, Request.CANCEL, now)

    def _on_exited(self, event: messages.WorkerExited, now: float) -> None:
        slot = self.slots[event.slot]
        had_failed = slot.state is SlotState.STARTING or slot.kill_reason is KillReason.START
        self._ledger.take_report(slot, event.report, now)
        self._put_back(slot.took_back(event.taken), now)
        left = self._ledger.close_account(slot, event.report, event.exit, now)
        self._put_back(left[::-1], now)
        pause_s = 0.0
        if had_failed:
            pause_s = self._starts.failed()
            if self._starts.are_hopeless and not self.draining:
                problem = event.exit.problem or f"exit status {event.exit.code}"
                self._commands.append(messages.GiveUp(problem))
        slot.exited(now + pause_s)

    def _on_sampled(self, event: messages.Sampled, _now: float) -> None:
        if self.slots[event.slot].sampled(event):
            self._recall(self.slots[event.slot])

    def _on_cancel_requested(self, event: messages.CancelRequested, _now: float) -> None:
        is_wanted = one_of(event.fences)
        self._ledger.cancel(self.backlog.remove_where(is_wanted))
        for held in self._recalled(is_wanted):
            held.cancel_requested = True

    def _on_lease_changed(self, event: messages.LeaseChanged, _now: float) -> None:
        """Without one others may run these jobs: what runs is killed, what waits is given back."""
        self.fenced = event.is_over
        if self.fenced:
            self._ledger.release(self.backlog.emptied())
            self._recalled(lambda _: True)

    def _on_disowned(self, event: messages.Disowned, _now: float) -> None:
        is_gone = one_of(event.fences)
        self._ledger.release(self.backlog.remove_where(is_gone))
        for held in self._recalled(is_gone):
            held.disowned = True

    def _recalled(self, is_meant: Callable[[ClaimedJob], bool]) -> list[HeldJob]:
        """Recalls the workers that hold some of these jobs; returns those."""
        found = {slot: [h for h in slot.in_flight if is_meant(h.job)] for slot in self.slots}
        self._recall(*(slot for slot, held in found.items() if held))
        return [held for of_slot in found.values() for held in of_slot]

    def _on_queues_set(self, event: messages.QueuesSet, _now: float) -> None:
        self.paused = self._dispatch.paused = event.paused
        self._ledger.release(self.backlog.remove_where(lambda job: job.queue in event.paused))
        # Where fewer may run now, what has not begun is given out anew.
        again = self._limits.resize(event.max_workers) | event.paused
        self._recalled(lambda job: job.queue in again)

    def _on_drain_requested(self, event: messages.DrainRequested, _now: float) -> None:
        self.draining = True
        self._drain_deadline = event.deadline
        self._ledger.release(self.backlog.emptied())
        self._recall(*(slot for slot in self.slots if len(slot.in_flight) > 1))

    def _on_tick(self, _event: messages.Tick, _now: float) -> None:
        """What is due is done after every event."""

    _METHOD_OF: ClassVar[dict[type[messages.Event], Callable[[Pool, Any, float], None]]] = {
        messages.Claimed: _on_claimed,
        messages.WorkerReady: _on_ready,
        messages.Reported: _on_reported,
        messages.Recalled: _on_recalled,
        messages.WorkerExited: _on_exited,
        messages.Sampled: _on_sampled,
        messages.CancelRequested: _on_cancel_requested,
        messages.LeaseChanged: _on_lease_changed,
        messages.Disowned: _on_disowned,
        messages.QueuesSet: _on_queues_set,
        messages.DrainRequested: _on_drain_requested,
        messages.Tick: _on_tick,
    }

    # -- what becomes of jobs that were sent -----------------------------------------------------

    def _put_back(self, taken: Sequence[HeldJob], now: float) -> None:
        """Sees to jobs that were taken back from a worker, the last of them first."""
        waiting: list[HeldJob] = []
        for held in taken:
            if held.cancel_requested:
                self._ledger.cancel([held.job])
            elif self._gives_back(held):
                self._ledger.release([held.job])
            else:
                waiting.append(held)
        parked: Container[int] = ()
        if self.keyed and waiting:
            parked = self.keyed.came_back([held.job for held in reversed(waiting)], now)
        for held in waiting:
            if held.job.id in parked:
                self.backlog.refund(held.job, held.expected_s)
            else:
                self.backlog.append_left(held.job, held.expected_s)

    def _gives_back(self, held: HeldJob) -> bool:
        """Whether a job that has not begun is not to begin here."""
        is_wanted = not (held.disowned or held.too_late or held.job.queue in self.paused)
        return self.draining or self.fenced or not is_wanted

    # -- decisions ------------------------------------------------------------------------------

    def _look_at_slots(self, now: float) -> None:
        for slot in self.slots:
            match slot.state:
                case SlotState.VACANT if not self.draining and now >= slot.spawn_at:
                    slot.spawned(now)
                    self._commands.append(messages.Spawn(slot.number))
                case SlotState.STARTING if self.draining or now >= (slot.deadline or now + 1):
                    self._kill(slot, KillReason.SHUTDOWN if self.draining else KillReason.START)
                case SlotState.SERVING:
                    self._look_at_serving(slot, now)
                case SlotState.LEAVING if now >= (slot.deadline or now + 1):
                    self._kill(slot, KillReason.SHUTDOWN)
                case _:
                    pass

    def _look_at_serving(self, slot: Slot, now: float) -> None:
        if slot.soft_at is not None and not slot.asked and now >= slot.soft_at:
            self._ask(slot, Request.SOFT_TIMEOUT, now)
        if is_late(slot, now) or slot.withheld or (self.fenced and slot.in_flight):
            self._recall(slot)
        elif not slot.in_flight and (self.draining or is_due_for_recycling(slot, self.slots)):
            slot.dismissed(now, renewing=not self.draining)
            self._commands.append(messages.Dismiss(slot.number))
        elif self._drain_deadline is not None and now >= self._drain_deadline:
            self._recall(slot)
        elif (at := stall_at(slot)) is not None and now >= at:
            slot.stall()
            self._recall(slot)

    def _recall(self, *slots: Slot) -> None:
        for slot in (slot for slot in slots if slot.state is SlotState.SERVING):
            slot.move(SlotInput.RECALL)
            self._commands.append(messages.Recall(slot.number))

    def _kill(self, slot: Slot, reason: KillReason) -> None:
        slot.killed(reason)
        self._commands.append(messages.Kill(slot.number, reason))

    def _ask(self, slot: Slot, request: Request, now: float) -> None:
        slot.asked_to_end(request, now)
        self._commands.append(messages.Ask(slot.number, slot.head_number, request))

    def _let_in(self, now: float) -> None:
        """Gives what waits for a permit those that are free by what has just happened."""
        self.keyed.over(self._ledger.unsettled())
        self.backlog.extend(self.keyed.admitted(now))

    def _give_out(self, now: float) -> None:
        serving = [slot for slot in self.slots if slot.state is SlotState.SERVING]
        if not serving or self.draining or self.fenced:
            return
        if self._limits.engine.max_worker_rss is not None:
            serving = [slot for slot in serving if not is_due_for_recycling(slot, self.slots)]
        sends, full = self._dispatch.give_out(serving, now)
        self._commands += sends
        self._recall(*full)

    def _flushed(self) -> list[messages.Command]:
        if self.keyed:
            self.keyed.over(self._ledger.unsettled())
        settle = self._ledger.settled()
        self.held_claims.settled(settle)
        commands, self._commands = self._commands, []
        # First: what is over must be told also if the shell fails at one of the others.
        return commands if settle is None else [settle, *commands]
