"""What a supervisor has of one key of a limit: its permits, and its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from synk.claim import ClaimedJob


@dataclass(slots=True, eq=False)
class Key:
    """What is here of one key.

    Attributes:
        name: the key.
        permits: the numbers of the permits for it, each with that of the claim that took it.
        surplus: likewise, those that are above the limit since it was lowered: nothing begins
            under them, and they go back as soon as fewer workers have jobs of the key.
        waiting: its jobs that no permit goes with, those first that are to begin first.
        in_line: how many of its jobs wait for a worker with a permit.
        slots: how many of its jobs each slot's worker has.
        kind: that of the job of it that came last.
        waits_since: since when no worker has taken any, where some wait.
        moved_at: when a worker was given one of its jobs last.
        is_shut: whether jobs of it were given back for that; no more are wanted for its permits
            until a worker is done with it.
    """

    name: str
    permits: dict[int, int] = field(default_factory=dict[int, int])
    surplus: dict[int, int] = field(default_factory=dict[int, int])
    waiting: list[ClaimedJob] = field(default_factory=list["ClaimedJob"])
    in_line: int = 0
    slots: dict[int, int] = field(default_factory=dict[int, int])
    kind: str = ""
    waits_since: float = 0.0
    moved_at: float = 0.0
    is_shut: bool = False

    @property
    def jobs(self) -> int:
        """How many jobs of it are here."""
        return len(self.waiting) + self.in_line + sum(self.slots.values())

    @property
    def free(self) -> int:
        """How many permits go with nothing; less than 0 where some were withdrawn."""
        return len(self.permits) - self.in_line - len(self.slots)

    @property
    def excess(self) -> int:
        """How many of the surplus permits may go back: no worker needs them."""
        return max(0, min(len(self.surplus), len(self.surplus) + self.free))

    @property
    def is_at_rest(self) -> bool:
        """Whether there is no job of it."""
        return not (self.waiting or self.in_line or self.slots)


@dataclass(frozen=True, slots=True)
class KeyRoom:
    """What a claim of jobs with keys is to know of what is here.

    Attributes:
        held: by key, how many of its permits have room for more jobs.
        full: keys of which there are as many permits as there are workers, and that have enough.
    """

    held: Mapping[str, int] = field(default_factory=dict[str, int])
    full: Sequence[str] = ()
