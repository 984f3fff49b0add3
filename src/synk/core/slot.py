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
    from synk.core.messages import KillReason
    from synk.job import ClaimedJob


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


class IllegalTransition(SynkError):  # noqa: N818 - says what happened
    """The table has no such transition: a bug in the pool or in its shell. Nothing was changed."""

    def __init__(self, slot: int, state: SlotState, slot_input: SlotInput) -> None:
        super().__init__(f"slot {slot} is {state} and cannot take {slot_input}")


class Slot:
    """The state of one slot; `move` is the only way to change `state`."""

    __slots__ = (
        "backlog_s",
        "deadline",
        "done",
        "glance_at",
        "in_flight",
        "kill_reason",
        "number",
        "progress_at",
        "running",
        "sent",
        "spawn_at",
        "stalled",
        "started_s",
        "state",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state = SlotState.VACANT
        self.spawn_at = 0.0
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
        """When to look at its page: its job may have named a timeout of its own."""
        self.progress_at = 0.0
        """When it last finished a job, or was given one while it had none."""
        self.stalled = False
        """Its job takes far longer than expected: nothing is queued behind it."""
        self.kill_reason: KillReason | None = None

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
