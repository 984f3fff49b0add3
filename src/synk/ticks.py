"""When a schedule ticks: arithmetic of wall clocks and instants, without a clock of its own.

Which minutes of a wall clock a cron expression means is for cronsim to say, and it is asked of wall
clocks only, without a time zone. Which instants those minutes are is decided here, by one rule,
that of Debian's cron:

* where both the minute and the hour are named (``30 2 * * *``, ``0,30 8-18 * * *``), a wall clock
  time comes once: the first of two where the clock is set back, and where the clock is set forward
  over it, the moment at which that happens. Several that are passed over together are one tick.
* where one of the two begins with a star (``0 * * * *``, ``*/15 2 * * *``), what the clock shows
  counts: twice where the clock is set back over it, and never where it is not shown.

An interval is counted from the moment at which its schedule was defined, and knows no wall clock.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import zoneinfo
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from cronsim import CronSim, CronSimError

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_FIELDS: Final = {"minute": 59, "hour": 23, "day of month": 31, "month": 12, "day of week": 7}
"""The five, and the largest step that makes sense in each."""

TICKS_COUNTED: Final = 10_000
"""Of a cron expression, those that were missed are counted up to so many."""

CATCH_UP_MAX: Final = 100
"""So many missed ticks are made up for at the most."""

ON_TIME: Final = dt.timedelta(minutes=1)
"""A tick that is not this late was not missed."""

_MINUTE: Final = dt.timedelta(minutes=1)
_SECOND: Final = dt.timedelta(seconds=1)
_DAY: Final = dt.timedelta(days=1)
_LOOKS_BACK: Final = (dt.timedelta(hours=2), 7 * _DAY, 400 * _DAY, 3000 * _DAY)
_LONG_AGO: Final = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - a wall clock without a zone
"""Weekdays, dates and leap years have come in every combination within 50 years from then on."""


class Ticking(Protocol):
    """Something that ticks."""

    def after(self, moment: dt.datetime) -> dt.datetime:
        """Returns the first tick after *moment*; both with a time zone, the answer in UTC."""
        ...


class Cron:
    """The ticks of a cron expression on the wall clock of a time zone.

    Args:
        text: five fields, or a nickname such as ``@daily``.
        zone: the name of the time zone, as ``Europe/Berlin``.

    Raises:
        ConfigurationError: `cron` is no such expression, or never comes; or `tz` is not known.
    """

    def __init__(self, text: str, zone: str) -> None:
        self._zone = zone_of(zone)
        self._text = _checked(text)
        minute, hour, *_ = self._text.split()
        self._is_as_shown = minute.startswith("*") or hour.startswith("*")

    def after(self, moment: dt.datetime) -> dt.datetime:
        """See `Ticking.after`."""
        best: dt.datetime | None = None
        for wall in CronSim(self._text, self._from(moment)):
            instants = self._instants(wall)
            if best is not None and instants and instants[0] >= best:
                return best
            for nth, instant in enumerate(instants):
                if instant > moment and (best is None or instant < best):
                    best = instant
                    if nth == 0:
                        return best
        if best is None:
            raise ConfigurationError("cron", self._text, f"never comes after {moment}")
        return best

    def _from(self, moment: dt.datetime) -> dt.datetime:
        """Returns what the wall clock must show later than for a tick after *moment*."""
        shown = moment.astimezone(self._zone)
        wall = shown.replace(tzinfo=None, fold=0)
        if not self._is_as_shown:
            return wall
        # A clock that is set back soon shows again what was before.
        ahead = shown.utcoffset() or dt.timedelta(0)
        soon = (moment + _DAY).astimezone(self._zone).utcoffset() or dt.timedelta(0)
        return wall - max(dt.timedelta(0), ahead - soon)

    def _instants(self, wall: dt.datetime) -> list[dt.datetime]:
        """Returns when the clock shows *wall*, or stands for it, in order."""
        first, second = (
            wall.replace(tzinfo=self._zone, fold=fold).astimezone(dt.UTC) for fold in (0, 1)
        )
        if first == second:
            return [first]
        if first < second:
            return [first, second] if self._is_as_shown else [first]
        return [] if self._is_as_shown else [self._change(second, first)]

    def _change(self, before: dt.datetime, after: dt.datetime) -> dt.datetime:
        """Returns the moment between the two at which the clock is set forward."""
        offset = after.astimezone(self._zone).utcoffset()
        while after - before > _SECOND:
            middle = (before + (after - before) / 2).replace(microsecond=0)
            if middle.astimezone(self._zone).utcoffset() == offset:
                after = middle
            else:
                before = middle
        return after


@dataclass(frozen=True, slots=True)
class Every:
    """A tick every so often, counted from *since* on."""

    interval: dt.timedelta
    since: dt.datetime

    def after(self, moment: dt.datetime) -> dt.datetime:
        """See `Ticking.after`."""
        count = max(0, (moment - self.since) // self.interval)
        return (self.since + (count + 1) * self.interval).astimezone(dt.UTC)


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """Returns the time zone of that name.

    Raises:
        ConfigurationError: there is none.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        problem = "is no time zone: give a name as Europe/Berlin"
        raise ConfigurationError("tz", name, problem) from None


def _checked(text: object) -> str:
    """Returns the five fields of a cron expression."""
    if not isinstance(text, str):
        raise ConfigurationError("cron", text, "must be a cron expression, or a timedelta")
    known = text.strip().lower()
    if known.startswith("@"):
        if known not in NICKNAMES:
            problem = f"is no nickname that a schedule has: {', '.join(NICKNAMES)}"
            raise ConfigurationError("cron", text, problem)
        return NICKNAMES[known]
    fields = text.split()
    if len(fields) != len(_FIELDS):
        problem = f"has {len(fields)} fields, not five: minute hour day month weekday"
        raise ConfigurationError("cron", text, problem)
    for (name, most), field in zip(_FIELDS.items(), fields, strict=True):
        _check_steps(text, name, most, field)
    try:
        next(CronSim(" ".join(fields), _LONG_AGO))
    except (CronSimError, AssertionError, ValueError) as error:
        # It says which field: "Bad day-of-month".
        problem = str(error).lower() or "cannot be read"
        raise ConfigurationError("cron", text, f"{problem}, or one that never comes") from None
    except (StopIteration, OverflowError):
        raise ConfigurationError("cron", text, "never comes: there is no such day") from None
    return " ".join(fields)


def _check_steps(text: str, name: str, most: int, field: str) -> None:
    for part in field.split(","):
        step = part.partition("/")[2]
        if step.isascii() and step.isdecimal() and int(step) > most:
            raise ConfigurationError("cron", text, f"a step of {step} does not fit into a {name}")


# -- what is to be done about ticks ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What becomes of ticks that nobody was there for.

    Attributes:
        missed: ``one``: of several, the newest is made up for; ``all``: up to `CATCH_UP_MAX` of
            them; ``none``: only what is on time is done.
        max_late: a tick that is later than this is skipped; None: none is too late, but where
            nothing is made up for, `ON_TIME` is the limit.
    """

    missed: str
    max_late: dt.timedelta | None

    @property
    def _latest(self) -> dt.timedelta | None:
        return ON_TIME if self.missed == "none" and self.max_late is None else self.max_late

    def plan(self, ticking: Ticking, first: dt.datetime, now: dt.datetime) -> Plan:
        """Returns what is to be done about the ticks from *first* up to *now*; there is one."""
        due = _due(ticking, first, now)
        wanted = CATCH_UP_MAX if self.missed == "all" else 1
        latest = self._latest
        run = [t for t in due.newest[-wanted:] if latest is None or now - t <= latest]
        skipped = due.count - len(run)
        if not skipped:
            return Plan(tuple(run), due.next_at)
        left = due.newest[: len(due.newest) - len(run)]
        is_late = latest is not None and now - due.newest[-1] > latest
        return Plan(
            tuple(run),
            due.next_at,
            skipped=skipped,
            first_skipped=first,
            # Those that are made up for are the newest ones.
            last_skipped=left[-1] if left else first,
            reason="too late" if is_late else "missed",
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done about the ticks of a schedule that are due.

    Attributes:
        run: those that become jobs, in order.
        next_at: the first that is not due.
        skipped: how many become none.
        first_skipped: the first of these.
        last_skipped: the last of these.
        reason: why they become none.
    """

    run: tuple[dt.datetime, ...]
    next_at: dt.datetime
    skipped: int = 0
    first_skipped: dt.datetime | None = None
    last_skipped: dt.datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Due:
    count: int
    newest: Sequence[dt.datetime]
    next_at: dt.datetime


def _due(ticking: Ticking, first: dt.datetime, now: dt.datetime) -> _Due:
    """Counts the ticks from *first* to *now*, and returns the newest of them in order."""
    if isinstance(ticking, Every):
        next_at = ticking.after(now)
        count = (next_at - first) // ticking.interval
        kept = min(count, CATCH_UP_MAX + 1)
        newest = [next_at - n * ticking.interval for n in range(kept, 0, -1)]
        return _Due(count, newest, next_at)
    found = [first]
    for tick in _ticks(ticking, first):
        if tick > now:
            return _Due(len(found), found[-CATCH_UP_MAX - 1 :], tick)
        if len(found) == TICKS_COUNTED:
            break
        found.append(tick)
    # After months of a schedule by the minute: the newest are found from their end.
    newest: list[dt.datetime] = []
    for back in _LOOKS_BACK:
        newest = _between(ticking, max(first, now - back), now)
        if len(newest) > CATCH_UP_MAX:
            break
    return _Due(TICKS_COUNTED, newest[-CATCH_UP_MAX - 1 :], ticking.after(now))


def _ticks(ticking: Ticking, after: dt.datetime) -> Iterator[dt.datetime]:
    while True:
        after = ticking.after(after)
        yield after


def _between(ticking: Ticking, after: dt.datetime, now: dt.datetime) -> list[dt.datetime]:
    found: list[dt.datetime] = []
    for tick in _ticks(ticking, after):
        if tick > now:
            break
        found.append(tick)
    return found


def delay(name: str, tick: dt.datetime, jitter: dt.timedelta) -> dt.timedelta:
    """Returns by how much the job of a tick comes later: less than *jitter*, by the name and tick.

    Whoever computes it finds the same.
    """
    digest = hashlib.sha256(f"{name} {tick.timestamp()}".encode()).digest()
    return jitter * (int.from_bytes(digest[:6], "big") / 2**48)
