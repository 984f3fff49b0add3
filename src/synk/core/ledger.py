"""What reports and deaths mean for the jobs in flight, and what is to be settled of it."""

from __future__ import annotations

from itertools import count, repeat
from typing import TYPE_CHECKING

from synk.core.messages import KillReason, Settle
from synk.core.verdicts import (
    ended_by_death,
    ended_by_reply,
    ended_unseen,
    memory_limit,
    time_limit,
)
from synk.failure import Cause
from synk.retry import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from synk.claim import ClaimedJob
    from synk.core.estimates import Estimates
    from synk.core.limits import Limits
    from synk.core.messages import Exit, Measure, Report
    from synk.core.slot import HeldJob, Slot
    from synk.retry import EndedAttempt


class Ledger:
    """Takes the attempts that are over; `settled` gives them out, each once."""

    def __init__(self, limits: Limits, estimates: Estimates) -> None:
        self._limits = limits
        self._estimates = estimates
        self._successes: list[tuple[ClaimedJob, Measure, int | None]] = []
        self._ended: list[EndedAttempt] = []

    def settled(self) -> Settle | None:
        """Returns what is over since the last call."""
        if not self._successes and not self._ended:
            return None
        settle = Settle(self._successes, self._ended)
        self._successes, self._ended = [], []
        return settle

    def unsettled(self) -> list[ClaimedJob]:
        """Returns the jobs that `settled` will tell of."""
        return [success[0] for success in self._successes] + [each.job for each in self._ended]

    def release(self, jobs: Iterable[ClaimedJob]) -> None:
        """These go back to the storage uncharged: they have not begun."""
        self._ended += [judge(job, Verdict.RELEASED) for job in jobs]

    def cancel(self, jobs: Iterable[ClaimedJob]) -> None:
        """These are cancelled before they began."""
        text = "cancelled before it began"
        self._ended += [ended_unseen(job, Cause.CANCELLED, text) for job in jobs]

    def take_report(self, slot: Slot, report: Report, now: float) -> None:
        """Brings the slot up to what its worker reports."""
        over = slot.reported(report, now)
        if not over:
            return
        measures = report.measures[-len(over) :]
        jobs = [held.job for held in over]
        self._learn(jobs, measures)
        replies = report.replies
        if not replies:
            self._successes += zip(jobs, measures, repeat(slot.pid))
            return
        first = slot.head_number - len(over)
        for number, job, measure in zip(count(first), jobs, measures, strict=False):
            reply = replies.get(number)
            if reply is None:
                self._successes.append((job, measure, slot.pid))
            elif reply.cancelled:
                slot.withhold(ended_by_reply(job, reply, measure, slot.pid))
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

    def close_account(self, slot: Slot, report: Report, exit_: Exit, now: float) -> list[HeldJob]:
        """Blames the death of the slot's process on the job that ran, if one did.

        What its cancelled jobs had started is gone too, and they are told. Returns the jobs that
        had not begun, in order.
        """
        held, withheld = slot.emptied()
        if held and report.running == slot.head_number:
            self._blame(slot, held.pop(0).job, report, exit_, max(0.0, now - report.started_s))
        self._ended += withheld
        return held

    def _blame(
        self, slot: Slot, job: ClaimedJob, report: Report, exit_: Exit, ran_s: float
    ) -> None:
        limits = self._limits.of(job)
        limit = ""
        if slot.kill_reason is KillReason.MEMORY:
            own = (report.rss_max, self._limits.memory_of(job), limits.rss_max)
            limit = memory_limit(job, slot.tree_bytes, *own)
        elif ran_s >= (report.timeout_s or limits.timeout_s):
            limit = time_limit(job, report.timeout_s, limits.timeout_s)
        self._ended.append(ended_by_death(job, slot.kill_reason, exit_, ran_s, limit))
        self._estimates.learn(job.kind, ran_s)

    def abandon(self, slot: Slot) -> None:
        """The slot's process is gone, and nobody says how: its jobs go back uncharged."""
        held, withheld = slot.emptied()
        self.release([each.job for each in held])
        self._ended += withheld
