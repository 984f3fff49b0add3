"""One place for a worker process: its states, the one table of what may follow what, its jobs.

A slot outlives its processes. Jobs are numbered by the order in which they were sent to the present
process; `sent` and `done` are such numbers, and `in_flight` holds the jobs in between, in order.

A slot is told what has happened and notes what follows for it. It decides nothing, and nobody else
writes its fields.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from synk.core.messages import KillReason, Request
from synk.errors import SynkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.claim import ClaimedJob
    from synk.core.limits import Limits
    from synk.core.messages import Report, Sampled
    from synk.retry import EndedAttempt

GLANCE_S: Final = 0.005
"""A worker that was given a job is looked at after this time, and then ever more rarely, where its
page may tell of a limit that the job's own worker named."""

LEAVE_S: Final = 1.0
"""A worker without a job that was told to end has this long."""


class SlotState(StrEnum):
    """Where a slot stands."""

    VACANT = "vacant"
    """No process; a new one is due at `Slot.spawn_at`."""
    STARTING = "starting"
    """A process exists and is not ready for jobs yet."""
    SERVING = "serving"
    """It takes jobs, and may be running one."""
    RECALLING = "recalling"
    """It is being asked what it has not begun; until the answer it gets nothing."""
    KILLING = "killing"
    """Its end is decided; only its exit can follow."""
    LEAVING = "leaving"
    """It has no job and was told to end."""


class SlotInput(StrEnum):
    """What happens to a slot."""

    SPAWN = "spawn"
    READY = "ready"
    RECALL = "recall"
    RECALLED = "recalled"
    KILL = "kill"
    DISMISS = "dismiss"
    EXIT = "exit"


TRANSITIONS: Final[dict[tuple[SlotState, SlotInput], SlotState]] = {
    (SlotState.VACANT, SlotInput.SPAWN): SlotState.STARTING,
    (SlotState.STARTING, SlotInput.READY): SlotState.SERVING,
    (SlotState.STARTING, SlotInput.KILL): SlotState.KILLING,
    (SlotState.STARTING, SlotInput.EXIT): SlotState.VACANT,
    (SlotState.SERVING, SlotInput.RECALL): SlotState.RECALLING,
    (SlotState.SERVING, SlotInput.DISMISS): SlotState.LEAVING,
    (SlotState.SERVING, SlotInput.EXIT): SlotState.VACANT,
    (SlotState.RECALLING, SlotInput.RECALLED): SlotState.SERVING,
    (SlotState.RECALLING, SlotInput.EXIT): SlotState.VACANT,
    # A kill always follows a recall, so that it cannot hit the job after the one it is meant for.
    (SlotState.RECALLING, SlotInput.KILL): SlotState.KILLING,
    (SlotState.KILLING, SlotInput.EXIT): SlotState.VACANT,
    # It was ready too late: its end is decided already.
    (SlotState.KILLING, SlotInput.READY): SlotState.KILLING,
    (SlotState.LEAVING, SlotInput.KILL): SlotState.KILLING,
    (SlotState.LEAVING, SlotInput.EXIT): SlotState.VACANT,
}


_MANY: Final = 1_000_000


class IllegalTransition(SynkError):  # noqa: N818 - says what happened
    """The table has no such transition: a bug in the pool or in its shell. Nothing was changed."""

    def __init__(self, slot: int, state: SlotState, slot_input: SlotInput) -> None:
        super().__init__(f"slot {slot} is {state} and cannot take {slot_input}")


class HeldJob(msgspec.Struct, gc=False):
    """A job that a worker holds, and what is noted about it here; the worker gets the job alone.

    Attributes:
        job: the claim.
        expected_s: how long it was expected to run when it was sent.
        cancel_requested: whether somebody wants it cancelled.
        disowned: whether the storage says that this claim is over: whatever becomes of it is of no
            use.
        too_late: whether it is not to be begun any more.
    """

    job: ClaimedJob
    expected_s: float
    cancel_requested: bool = False
    disowned: bool = False
    too_late: bool = False


class Slot:
    """The state of one slot; `move` is the only way to change `state`.

    It has more methods than other classes: nobody else writes its fields, so that each thing which
    happens to a slot is a verb here.
    """

    def __init__(self, number: int, limits: Limits) -> None:
        self.number = number
        self.limits = limits
        self.state = SlotState.VACANT
        self.spawn_at = 0.0
        self.renewing = False
        """Its process is being recycled: replaced by the rule, not because anything went wrong."""
        self._reset()

    def _reset(self) -> None:
        """Forgets what was about the process that is gone."""
        self.in_flight: deque[HeldJob] = deque()
        self.sent = 0
        self.done = 0
        self.running = False
        """Whether the first job in flight is known to run."""
        self.started_s = 0.0
        self.backlog_s = 0.0
        """How long the jobs in flight are expected to take, in seconds of wall time."""
        self.deadline: float | None = None
        """When the slot must be looked at: its job is late by then, or its start is."""
        self.glance_at: float | None = None
        """When to look at its status page: its job may have named a timeout of its own."""
        self.progress_at = 0.0
        """When it last finished a job, or was given one while it had none."""
        self.stalled = False
        """Its job takes far longer than expected, or was asked to end: nothing is queued behind
        it."""
        self.kill_reason: KillReason | None = None
        self.pid: int | None = None
        self.rss_bytes = 0
        """The worker's own resident memory at the last look."""
        self.withheld: list[EndedAttempt] = []
        """Of attempts that ended on request: told once the process is gone with all it started."""
        self._forget_job()

    def _forget_job(self) -> None:
        """Forgets what was about the job that ran."""
        self.asked = False
        """Whether the job was asked to end for its soft time limit."""
        self.soft_at: float | None = None
        """When it is to be asked that."""
        self.cancel_at: float | None = None
        """When it is killed, if it does not follow the request to cancel."""
        self.rss_max: int | None = None
        """The memory in bytes that it and all it started may use, if its worker named that."""
        self.tree_bytes = 0
        """What they used when that was above the limit."""

    # -- what others want to know -----------------------------------------------------------------

    @property
    def places(self) -> int:
        """How many more jobs its worker takes, if there is time for them."""
        if self.state is not SlotState.SERVING or self.renewing:
            return 0
        if self.withheld or (self.stalled and self.in_flight):
            return 0
        jobs_max = self.limits.engine.max_jobs
        return _MANY if jobs_max is None else jobs_max - self.sent

    @property
    def is_used_up(self) -> bool:
        """Whether its process has done its share."""
        jobs_max, rss_max = self.limits.engine.max_jobs, self.limits.engine.max_worker_rss
        return (jobs_max is not None and self.sent >= jobs_max) or (
            rss_max is not None and self.rss_bytes > rss_max
        )

    @property
    def memory_limit(self) -> int | None:
        """The bytes that its job may use; None: any number, or there is no job."""
        if not self.in_flight:
            return None
        return self.rss_max or self.limits.rss_of(self.in_flight[0].job)

    @property
    def head_number(self) -> int:
        """The number of the first job in flight."""
        return self.done + 1

    def job_of(self, number: int) -> ClaimedJob | None:
        """Returns the job in flight with this number, if there is one."""
        place = number - self.head_number
        return self.in_flight[place].job if 0 <= place < len(self.in_flight) else None

    # -- what happens to its process --------------------------------------------------------------

    def move(self, slot_input: SlotInput) -> None:
        """Follows the table.

        Raises:
            IllegalTransition: the table has no such transition; nothing was changed.
        """
        following = TRANSITIONS.get((self.state, slot_input))
        if following is None:
            raise IllegalTransition(self.number, self.state, slot_input)
        if following in (SlotState.VACANT, SlotState.STARTING):
            self._reset()
        self.state = following

    def spawned(self, now: float) -> None:
        """A process is on its way."""
        self.move(SlotInput.SPAWN)
        self.deadline = now + self.limits.engine.start_timeout_s

    def became_ready(self, pid: int | None, now: float) -> None:
        """Its process takes jobs, unless its end is decided already."""
        self.move(SlotInput.READY)
        if self.state is SlotState.SERVING:
            self.deadline = None
            self.progress_at = now
            self.pid = pid
            self.renewing = False

    def dismissed(self, now: float, *, renewing: bool) -> None:
        """Its process, which has no job, was told to end; *renewing*: to be replaced."""
        self.move(SlotInput.DISMISS)
        self.renewing = renewing
        self.deadline = now + LEAVE_S

    def killed(self, reason: KillReason) -> None:
        """The end of its process is decided."""
        self.move(SlotInput.KILL)
        self.kill_reason = reason
        self.deadline = None

    def exited(self, spawn_at: float) -> None:
        """Its process is gone; the next one is due at this time."""
        self.move(SlotInput.EXIT)
        self.spawn_at = spawn_at

    # -- what happens to its jobs -----------------------------------------------------------------

    def gave(self, jobs: Sequence[ClaimedJob], expected_s: float, now: float) -> None:
        """Its worker was given *jobs*, which are expected to take so long each."""
        if not self.in_flight:
            self.progress_at = now
            self.deadline = now + self.limits.of(jobs[0]).timeout_s
            self._glance_soon(jobs[0], now)
        self.in_flight += [HeldJob(job, expected_s) for job in jobs]
        self.backlog_s += expected_s * len(jobs)
        self.sent += len(jobs)

    def took_back(self, count: int) -> list[HeldJob]:
        """The last *count* jobs, which had not begun, were taken back; the last comes first."""
        taken = [self.in_flight.pop() for _ in range(count)]
        self.sent -= count
        for held in taken:
            self.backlog_s -= held.expected_s
        return taken

    def emptied(self) -> tuple[list[HeldJob], list[EndedAttempt]]:
        """Takes all jobs, and what was withheld, from a worker that is gone."""
        held, withheld = list(self.in_flight), self.withheld
        self.in_flight.clear()
        self.withheld = []
        return held, withheld

    def reported(self, report: Report, now: float) -> list[HeldJob]:
        """Its worker has told how far it is; returns the jobs that are over, in order."""
        over = [self.in_flight.popleft() for _ in range(report.done - self.done)]
        if over:
            self.done = report.done
            self.progress_at = now
            self.stalled = False
            self.backlog_s -= sum([held.expected_s for held in over])
            self._forget_job()
        if self.in_flight:
            self._follow(report, now, is_next=bool(over))
        else:
            self.running = False
            self.backlog_s = 0.0
            self.glance_at = None
            if self.state in (SlotState.SERVING, SlotState.RECALLING):
                self.deadline = None
        return over

    def _follow(self, report: Report, now: float, *, is_next: bool) -> None:
        """Notes how it is with the first job in flight; *is_next*: the one before it is over."""
        job = self.in_flight[0].job
        timeout_s = self.limits.of(job).timeout_s
        self.running = report.running == self.head_number
        if self.running:
            self.started_s = report.started_s
            self.deadline = report.started_s + (report.timeout_s or timeout_s)
            self.soft_at = None if report.soft_s is None else report.started_s + report.soft_s
            self.rss_max = report.rss_max
        elif is_next:
            self.deadline = now + timeout_s
        if is_next:
            self._glance_soon(job, now)
        elif self.running and report.timeout_s is not None:
            self.glance_at = None
        elif self.glance_at is not None and now >= self.glance_at:
            self.glance_at = now + max(GLANCE_S, now - self.progress_at)

    def _glance_soon(self, job: ClaimedJob, now: float) -> None:
        self.glance_at = now + GLANCE_S if self.limits.may_name_its_own(job) else None

    def stall(self) -> None:
        """Nothing may wait behind its job any more."""
        self.stalled = True

    def asked_to_end(self, request: Request, now: float) -> None:
        """Its job was asked to end by itself."""
        if request is Request.SOFT_TIMEOUT:
            self.asked = True
            return
        self.cancel_at = now + self.limits.engine.cancel_grace_s
        # Nothing may wait behind it: its process ends with it.
        self.stall()

    def withhold(self, ended: EndedAttempt) -> None:
        """Its job ended as it was asked to: told when its process is gone, and what it started."""
        self.withheld.append(ended)
        self.stall()

    def sampled(self, sample: Sampled) -> bool:
        """Its memory was measured; returns whether its job uses more than it may."""
        self.rss_bytes = sample.own_bytes
        limit = self.memory_limit
        if not self.running or sample.number != self.head_number or limit is None:
            return False
        if sample.tree_bytes > limit:
            self.tree_bytes = sample.tree_bytes
        return sample.tree_bytes > limit
