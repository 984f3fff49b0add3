"""Many jobs at once: which ones, and what became of them."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from synk.errors import InvalidValue
from synk.row import CancelReason, Change, JobState, check_aware, check_id, check_label, check_tags

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are meant: those that are all of what is said here.

    Attributes:
        state: where they stand; None, as all others: it does not matter.
        reason: why they are cancelled; only cancelled ones are meant then.
        kind: their kind.
        queue: their queue.
        tags: all of these are among their tags; empty, the default: it does not matter.
        since: a time, or how long ago: they ended since, or were inserted since if they have not
            ended.
        until: likewise, before then.
        ids: the lowest and the highest id, both included.
        error: what their last failed attempt failed with: the name of an exception, with its module
            or without (``ValueError``, ``myapp.Declined``, ``Declined``), or a `Cause`, as
            ``timeout``.

    Raises:
        InvalidValue: on construction, naming the field and the value.
    """

    state: JobState | None = None
    reason: CancelReason | None = None
    kind: str | None = None
    queue: str | None = None
    tags: Collection[str] = ()
    since: dt.datetime | dt.timedelta | None = None
    until: dt.datetime | dt.timedelta | None = None
    ids: tuple[int, int] | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        _put(self, "state", _member("state", self.state, JobState))
        _put(self, "reason", _member("reason", self.reason, CancelReason))
        if self.reason is not None and self.state not in (None, JobState.CANCELLED):
            raise InvalidValue("reason", self.reason, f"is of cancelled jobs, not of {self.state}")
        for name in ("kind", "queue"):
            if getattr(self, name) is not None:
                check_label(name, getattr(self, name))
        if self.error is not None:
            check_label("error", self.error, most=1000)
        _put(self, "tags", check_tags(self.tags))
        self._check_times()
        if self.ids is not None:
            _put(self, "ids", _range_of_ids(self.ids))

    def _check_times(self) -> None:
        for name in ("since", "until"):
            _check_time(name, getattr(self, name))
        if (
            isinstance(self.since, dt.datetime)
            and isinstance(self.until, dt.datetime)
            and self.since >= self.until
        ):
            raise InvalidValue("until", self.until, f"is not after since={self.since}")

    @property
    def says_nothing(self) -> bool:
        """Whether all jobs are meant."""
        return self == JobFilter()

    @property
    def ended(self) -> JobState | None:
        """The final state that all of them are in; None: they need not be in one."""
        if self.reason is not None:
            return JobState.CANCELLED
        return self.state if self.state is not None and self.state.is_final else None

    def bound(self, now: dt.datetime, highest: int) -> JobFilter:
        """Returns the same for what is there *now*, up to the *highest* id.

        Jobs that are inserted later, or end later, are not meant any more.
        """
        since, until = (
            now - each if isinstance(each, dt.timedelta) else each
            for each in (self.since, self.until)
        )
        low, high = self.ids or (1, highest)
        return replace(
            self,
            since=since,
            until=now if until is None or until > now else until,
            ids=(low, max(low, min(high, highest))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many jobs a filter means.

    Attributes:
        count: how many were found.
        is_more: whether there may be more: it was not counted any further.
        filter: the same filter for the jobs that were there: what is inserted later, or ends later,
            is not among them. Give this one to `retry_many` and the others.
    """

    count: int
    is_more: bool
    filter: JobFilter

    def __str__(self) -> str:
        return f"{'at least ' if self.is_more else ''}{self.count:,}"


@dataclass(slots=True, kw_only=True)
class Changes:
    """What became of many jobs; grows while they are changed.

    Attributes:
        counts: how many had which answer, as `Client.retry` and the others give them.
        skipped: how many were left alone, since somebody else had them locked, or had just changed
            them.
        filter: the jobs that were meant; see `Found`.
    """

    filter: JobFilter
    counts: Counter[Change] = field(default_factory=Counter[Change])
    skipped: int = 0

    @property
    def applied(self) -> int:
        """How many were changed, at once or as soon as their supervisor has ended them."""
        return sum(self.counts[each] for each in (Change.APPLIED, Change.REQUESTED, Change.TAKEN))

    @property
    def looked(self) -> int:
        """How many jobs of the filter it has come to."""
        return self.counts.total() + self.skipped

    def __str__(self) -> str:
        told = [f"{number:,} {change}" for change, number in sorted(self.counts.items()) if number]
        if self.skipped:
            told.append(f"{self.skipped:,} skipped")
        return ", ".join(told) or "none"


def check_selective(given: object) -> JobFilter:
    """Returns what is given if it is a filter that says something.

    Raises:
        InvalidValue: it is none, or says nothing.
    """
    if not isinstance(given, JobFilter):
        raise InvalidValue("filter", given, "must be a JobFilter")
    if given.says_nothing:
        problem = "says nothing, and would mean every job: if so, say ids=(1, 2**63 - 1)"
        raise InvalidValue("filter", given, problem)
    return given


def check_limit(limit: object) -> int | None:
    """Returns a limit, or None.

    Raises:
        InvalidValue: it is no whole number from 1 on.
    """
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidValue("limit", limit, "must be a whole number from 1 on")
    return limit


def _put(made: JobFilter, name: str, value: object) -> None:
    object.__setattr__(made, name, value)


def _member(name: str, value: Any, members: Any) -> Any:
    if value is None:
        return None
    try:
        return members(value)
    except ValueError:
        raise InvalidValue(name, value, f"must be one of {', '.join(members)}") from None


def _check_time(name: str, value: object) -> None:
    if isinstance(value, dt.timedelta):
        if not dt.timedelta(0) <= value <= dt.timedelta(days=36_500):
            raise InvalidValue(name, value, "must be from zero to a hundred years")
    elif value is not None:
        check_aware(name, value)


def _range_of_ids(value: object) -> tuple[int, int]:
    ends = cast("Sequence[object]", value) if type(value) in (tuple, list) else ()
    if len(ends) != 2:
        raise InvalidValue("ids", value, "must be the lowest and the highest id")
    low, high = check_id("ids", ends[0]), check_id("ids", ends[1])
    if low > high:
        raise InvalidValue("ids", value, "must be the lowest and the highest id, in this order")
    return low, high
