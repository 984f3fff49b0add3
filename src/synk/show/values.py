"""Single values as a person wants to read them: durations, sizes, times, states, numbers."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from rich.text import Text

from synk.row import JobState
from synk.status import DEPTH_COUNTED, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.row import ListedJob

STYLES: Final[Mapping[JobState, str]] = {
    JobState.AVAILABLE: "cyan",
    JobState.SCHEDULED: "blue",
    JobState.PENDING: "magenta",
    JobState.RUNNING: "yellow",
    JobState.COMPLETED: "green",
    JobState.CANCELLED: "red",
}
_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def duration(value: dt.timedelta | float | None) -> str:
    """Returns a duration, in seconds if a number, with a fitting unit: ``1.4 s``, ``23 ms``."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    for size, unit in _UNITS:
        if seconds >= size:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def plain(text: str) -> Text:
    """Returns text from a row without what would move the cursor or hide the rest of a line."""
    return Text(printable(text))


def size(value: int | None) -> str:
    """Returns a number of bytes with a fitting unit: ``34 MB``."""
    if value is None:
        return "-"
    return f"{value / 1e6:.0f} MB" if value < 1e9 else f"{value / 1e9:.1f} GB"


def when(value: dt.datetime | None, now: dt.datetime) -> str:
    """Returns a time as seen from *now*: ``3.0 s ago``, ``in 2.0 h``."""
    if value is None:
        return "-"
    seconds = (now - value).total_seconds()
    if abs(seconds) < 0.5:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def state(row: ListedJob) -> Text:
    """Returns the state in its colour, why it is cancelled, or how often it has snoozed."""
    reason = f" ({row.cancel_reason})" if row.cancel_reason else ""
    if row.snoozes and row.state in (JobState.SCHEDULED, JobState.AVAILABLE):
        reason = f" (snoozed {row.snoozes}x)"
    return Text(f"{row.state}{reason}", style=STYLES[row.state])


def counts(numbers: Mapping[JobState, int]) -> Text:
    """Returns how many jobs are in each state, on one line."""
    parts = [
        Text(f"{numbers[each]:,} {each}", style=STYLES[each])
        for each in JobState
        if numbers.get(each)
    ]
    return Text("  ").join(parts) if parts else Text("no jobs", style="dim")


def counted(number: int) -> str:
    """Returns a number of jobs, which are counted up to `DEPTH_COUNTED`."""
    return f"{number:,}+" if number >= DEPTH_COUNTED else f"{number:,}"
