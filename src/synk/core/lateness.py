"""Who is late: when a worker must be looked at, and what it is killed for.

On the monotonic clock, in seconds, as all of the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk.core.messages import KillReason
from synk.core.slot import SlotState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.core.slot import Slot

DISPATCH_S: Final = 5.0
"""A worker that is given a job and has nothing else to do has this long to begin it. One that does
not, because it is stopped for example, is replaced, and the job begins elsewhere."""

STALL_S: Final = 0.1
"""A worker without progress for this long, and for three times what its job was expected to take,
gets no more jobs, and what waits at it is taken back. Longer than a worker is silent that has more
to do: before anybody is late, its page is looked at."""


def is_due_for_recycling(slot: Slot, slots: Sequence[Slot]) -> bool:
    """Whether the slot's process has done its share, and no other is being replaced for that.

    One at a time: a pool whose workers were all started together would stand still together.
    """
    return slot.is_used_up and not any(other.renewing for other in slots if other is not slot)


def times_of(slot: Slot, *, drain_deadline: float | None) -> list[float]:
    """Returns when to look at a slot."""
    match slot.state:
        case SlotState.VACANT:
            return [slot.spawn_at] if drain_deadline is None else []
        case SlotState.SERVING:
            soft_at = None if slot.asked else slot.soft_at
            times = (
                *(stall_at(slot), slot.glance_at, slot.deadline),
                *(soft_at, slot.cancel_at, deaf_at(slot), drain_deadline),
            )
            return [time for time in times if time is not None]
        case SlotState.STARTING | SlotState.LEAVING:
            return [] if slot.deadline is None else [slot.deadline]
        case _:
            return []


def stall_at(slot: Slot) -> float | None:
    """Returns when nothing may wait behind the slot's job any more."""
    if len(slot.in_flight) < 2 or slot.stalled:
        return None
    return slot.progress_at + max(STALL_S, 3 * slot.in_flight[0].expected_s)


def deaf_at(slot: Slot) -> float | None:
    """Returns when the slot's job ought to have begun."""
    if not slot.in_flight or slot.running:
        return None
    return slot.progress_at + DISPATCH_S


def is_deaf(slot: Slot, now: float) -> bool:
    """Whether the slot's job ought to have begun, and has not."""
    at = deaf_at(slot)
    return at is not None and now >= at


def is_late(slot: Slot, now: float) -> bool:
    """Whether the time of the slot's job, or for its beginning or its end, is over."""
    times = (slot.deadline, slot.cancel_at, deaf_at(slot))
    return any(time is not None and now >= time for time in times)


def reason_to_kill(
    slot: Slot, now: float, *, is_fenced: bool, drain_deadline: float | None
) -> KillReason | None:
    """Returns why a worker is killed that was just recalled: nothing but its job is left there.

    Args:
        slot: the worker's.
        now: the present.
        is_fenced: whether nothing may run.
        drain_deadline: when nothing may run any more; None: there is no drain.
    """
    if slot.withheld or (slot.in_flight and _is_out_of_grace(slot, now)):
        return KillReason.CANCELLED
    if not slot.in_flight:
        return None
    if is_fenced or slot.in_flight[0].disowned:
        return KillReason.LEASE if is_fenced else KillReason.DISOWNED
    if slot.tree_bytes:
        return KillReason.MEMORY
    if slot.deadline is not None and now >= slot.deadline:
        return KillReason.TIMEOUT
    is_over = drain_deadline is not None and now >= drain_deadline
    return KillReason.SHUTDOWN if is_over else None


def _is_out_of_grace(slot: Slot, now: float) -> bool:
    if not slot.in_flight[0].cancel_requested:
        return False
    asked_long_ago = slot.cancel_at is not None and now >= slot.cancel_at
    return asked_long_ago or not slot.limits.engine.cancel_grace_s
