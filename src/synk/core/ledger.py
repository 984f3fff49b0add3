"""What reports and deaths mean for the jobs in flight, and what is to be settled of it."""

from __future__ import annotations

from itertools import count, repeat
from typing import TYPE_CHECKING, Final

from synk.core.messages import KillReason, Settle
from synk.core.slot import SlotState
from synk.core.verdicts import (
    cancelled_error,
    ended_by_death,
    ended_by_reply,
    memory_limit,
    time_limit,
)
from synk.retry import Ended, Verdict

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from synk.claim import ClaimedJob
    from synk.core.demand import QueueLimits
    from synk.core.estimates import Estimates
    from synk.core.messages import Exit, Measure, Report
    from synk.core.slot import Slot

GLANCE_S: Final = 0.005
"""A worker that was given a job is looked at after this time, and then ever more rarely, where its
page may tell of a limit that the job's own worker named."""


def glance_at(job: ClaimedJob, now: float, limited: Container[str] | None) -> float | None:
    """Returns when to look at the status page of a worker that begins *job*; None: no need."""
    return now + GLANCE_S if limited is None or job.kind in limited else None


class Ledger:
    """Takes the attempts that are over; `settled` gives them out, each once."""

    def __init__(
        self,
        queues: Mapping[str, QueueLimits],
        estimates: Estimates,
        limited: Container[str] | None,
    ) -> None:
        self._queues = queues
        self._limited = limited
        self._estimates = estimates
        self._successes: list[tuple[ClaimedJob, Measure, int | None]] = []
        self._ended: list[Ended] = []

    def settled(self) -> Settle | None:
        """Returns what is over since the last call."""
        if not self._successes and not self._ended:
            return None
        settle = Settle(self._successes, self._ended)
        self._successes, self._ended = [], []
        return settle

    def release(self, jobs: Iterable[ClaimedJob]) -> None:
        """These go back to the storage uncharged: they have not begun."""
        self._ended += [Ended(job, Verdict.RELEASED) for job in jobs]

    def cancel(self, jobs: Iterable[ClaimedJob]) -> None:
        """These are cancelled before they began."""
        self._ended += [Ended(job, Verdict.CANCELLED, error=cancelled_error(job)) for job in jobs]

    def tell_withheld(self, slot: Slot) -> None:
        """The slot's process is gone, and with it all that its cancelled jobs had started."""
        self._ended += slot.withheld

    def take_report(self, slot: Slot, report: Report, now: float) -> None:
        """Brings the slot up to what its worker reports."""
        finished = report.done - slot.done
        if finished > 0:
            slot.next_job()
            slot.progress_at = now
            slot.stalled = False
            self._take_finished(slot, report, finished)
        if not slot.in_flight:
            slot.running = False
            slot.backlog_s = 0.0
            slot.glance_at = None
            if slot.state in (SlotState.SERVING, SlotState.RECALLING):
                slot.deadline = None
            return
        head = slot.in_flight[0]
        slot.running = report.running == slot.head_number
        timeout = self._queues[head.queue].timeout_s
        if slot.running:
            slot.started_s = report.started_s
            slot.deadline = report.started_s + (report.timeout_s or timeout)
            slot.soft_at = None if report.soft_s is None else report.started_s + report.soft_s
            slot.rss_max = report.rss_max
        elif finished > 0:
            slot.deadline = now + timeout
        if finished > 0:
            slot.glance_at = glance_at(head, now, self._limited)
        elif slot.running and report.timeout_s is not None:
            slot.glance_at = None
        elif slot.glance_at is not None and now >= slot.glance_at:
            slot.glance_at = now + max(GLANCE_S, now - slot.progress_at)

    def _take_finished(self, slot: Slot, report: Report, finished: int) -> None:
        replies = report.replies
        measures = report.measures[-finished:]
        jobs = [slot.in_flight.popleft() for _ in measures]
        slot.backlog_s -= sum([job.expected_s for job in jobs])
        self._learn(jobs, measures)
        first = slot.done + 1
        slot.done = report.done
        if not replies:
            self._successes += zip(jobs, measures, repeat(slot.pid))
            return
        for number, job, measure in zip(count(first), jobs, measures, strict=False):
            reply = replies.get(number)
            if reply is None:
                self._successes.append((job, measure, slot.pid))
            elif reply.cancelled:
                # Told when its process is gone, and with it whatever it started.
                slot.withheld.append(ended_by_reply(job, reply, measure, slot.pid))
                slot.stalled = True
            else:
                self._ended.append(ended_by_reply(job, reply, measure, slot.pid))

    def _learn(self, jobs: Sequence[ClaimedJob], measures: Sequence[Measure]) -> None:
        mean_s = sum([measure[0] for measure in measures]) / 1e6 / len(measures)
        self._estimates.learn_of_queue(jobs[0].queue, mean_s)
        if len({job.kind for job in jobs}) == 1:
            self._estimates.learn(jobs[0].kind, mean_s, len(jobs))
            return
        for job, measure in zip(jobs, measures, strict=True):
            self._estimates.learn(job.kind, measure[0] / 1e6)

    def blame(self, slot: Slot, report: Report, exit_: Exit, now: float) -> list[ClaimedJob]:
        """Blames a death on the job that ran; returns the jobs behind it, in order."""
        jobs = list(slot.in_flight)
        slot.in_flight.clear()
        if report.running == slot.head_number:
            ran_s = max(0.0, now - report.started_s)
            limits = self._queues[jobs[0].queue]
            limit = ""
            if slot.kill_reason is KillReason.MEMORY:
                limit = memory_limit(jobs[0], slot.tree_bytes, report.rss_max, limits.rss_max)
            elif ran_s >= (report.timeout_s or limits.timeout_s):
                limit = time_limit(jobs[0], report.timeout_s, limits.timeout_s)
            self._ended.append(ended_by_death(jobs[0], slot.kill_reason, exit_, ran_s, limit))
            self._estimates.learn(jobs[0].kind, ran_s)
            del jobs[0]
        return jobs
