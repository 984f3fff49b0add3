"""What can be seen of limits: what holds, and how much of it is taken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from synk.limit import Cap, Limit


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedKey:
    """A key of which jobs wait, or processes are at work.

    Attributes:
        key: as it is in ``limit_key``; see `Limit`.
        waiting: how many jobs of it wait, that are due.
        is_more: whether there are more than were counted.
        permits: how many processes are at work for it, or about to be.
        owners: the ids of the supervisors whose processes these are.
        begun: (how long ago, how many jobs): what has begun of late, by parts of a period.
    """

    key: str
    waiting: int
    is_more: bool
    permits: int
    owners: Sequence[str]
    begun: Sequence[tuple[dt.timedelta, int]] = ()

    def begun_in(self, period: dt.timedelta) -> int:
        """Returns how many jobs have begun within a *period*."""
        return sum(number for ago, number in self.begun if ago < period)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitedKeys:
    """What a storage tells of keys.

    Attributes:
        keys: by key.
        is_cut: whether there are more of which jobs wait.
    """

    keys: Sequence[LimitedKey]
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """A limit while jobs run.

    Attributes:
        name: its name.
        declared: what the code of the supervisor says that has started last; None: no supervisor
            has told of it.
        cap: what holds for each of its keys, unless *caps* says otherwise.
        caps: by key, what holds for that alone, because somebody has set it.
        keys: those of which jobs wait, or processes are at work.
        is_cut: whether there are more of which jobs wait, of this limit or another.
    """

    name: str
    declared: Limit | None
    cap: Cap
    caps: dict[str, Cap] = field(default_factory=dict["str", "Cap"])
    keys: Sequence[LimitedKey] = ()
    is_cut: bool = False

    def cap_of(self, key: str) -> Cap:
        """Returns what holds for *key*."""
        return self.caps.get(key, self.cap)
