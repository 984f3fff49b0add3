"""One place for a worker process: its states, and the one table of what may follow what.

A slot outlives its processes. Jobs are numbered by the order in which they were sent to the present
process; `sent` and `done` are such numbers, and `in_flight` holds the jobs in between, in order.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from synk.errors import SynkError

if TYPE_CHECKING:
    from synk.claim import ClaimedJob
    from synk.core.messages import KillReason
    from synk.retry import Ended


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


class Slot:
    """The state of one slot; `move` is the only way to change `state`."""

    __slots__ = (
        "asked",
        "backlog_s",
        "cancel_at",
        "deadline",
        "done",
        "glance_at",
        "in_flight",
        "jobs_max",
        "kill_reason",
        "number",
        "pid",
        "progress_at",
        "renewing",
        "rss_bytes",
        "rss_max",
        "running",
        "sent",
        "soft_at",
        "spawn_at",
        "stalled",
        "started_s",
        "state",
        "tree_bytes",
        "withheld",
    )

    def __init__(self, number: int, jobs_max: int | None = None) -> None:
        self.number = number
        self.jobs_max = jobs_max
        """How many jobs one process runs at most."""
        self.state = SlotState.VACANT
        self.spawn_at = 0.0
        self.renewing = False
        """Its process is being recycled: replaced by the rule, not because anything went wrong."""
        self._reset()

    def _reset(self) -> None:
        self.in_flight: deque[ClaimedJob] = deque()
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
        """Its job takes far longer than expected: nothing is queued behind it."""
        self.kill_reason: KillReason | None = None
        self.pid: int | None = None
        self.rss_bytes = 0
        """The worker's own resident memory at the last look."""
        self.withheld: list[Ended] = []
        """Of attempts that ended on request: told once the process is gone with all it started."""
        self.next_job()

    def next_job(self) -> None:
        """Forgets what was about the job that ran."""
        self.asked = False
        """Whether the job was asked to end for its soft time limit."""
        self.soft_at: float | None = None
        """When it is to be asked that."""
        self.cancel_at: float | None = None
        """When it is killed, if it does not follow the request to cancel."""
        self.rss_max: int | None = None
        """The memory in bytes that the job and all that it started may use."""
        self.tree_bytes = 0
        """What they used when that was above the limit."""

    @property
    def places(self) -> int:
        """How many more jobs its worker takes, if there is time for them."""
        if self.state is not SlotState.SERVING or self.renewing:
            return 0
        if self.withheld or (self.stalled and self.in_flight):
            return 0
        return _MANY if self.jobs_max is None else self.jobs_max - self.sent

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

    @property
    def head_number(self) -> int:
        """The number of the first job in flight."""
        return self.done + 1

    def job_of(self, number: int) -> ClaimedJob | None:
        """Returns the job in flight with this number, if there is one."""
        place = number - self.head_number
        return self.in_flight[place] if 0 <= place < len(self.in_flight) else None
