"""Facts about periodic jobs: what became of each tick."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from synk.telemetry.fact import Fact

if TYPE_CHECKING:
    import datetime as dt


class _OfSchedule(Fact):
    """What all have.

    Attributes:
        schedule: the name of the periodic job.
    """

    schedule: str

    @property
    def fields(self) -> dict[str, object]:
        """See `Fact.fields`."""
        return {"schedule": self.schedule}


class ScheduleDeclared(_OfSchedule):
    """A starting supervisor has stored what its code says of a periodic job.

    Attributes:
        is_new: whether it was not there before.
        ticks: when it ticks: its expression and time zone, or its interval.
    """

    is_new: bool
    ticks: str

    def __str__(self) -> str:
        how = "declared" if self.is_new else "declared anew, other than before"
        return f"periodic job {self.schedule} {how}: {self.ticks}"


class ScheduleFailing(_OfSchedule, level=logging.WARNING):
    """Nothing can be done about the ticks of a periodic job; the others go on.

    Attributes:
        problem: why.
    """

    problem: str

    def __str__(self) -> str:
        return f"periodic job {self.schedule} does not tick: {self.problem}"


class TicksTaken(_OfSchedule, level=logging.DEBUG):
    """Ticks of a periodic job have become jobs.

    Attributes:
        ticks: their times.
        job_ids: their jobs; a tick whose job was there before has none of these.
    """

    ticks: tuple[dt.datetime, ...]
    job_ids: tuple[int, ...]

    def __str__(self) -> str:
        ticks = ", ".join(each.isoformat() for each in self.ticks)
        jobs = ", ".join(str(each) for each in self.job_ids)
        return f"periodic job {self.schedule}: {ticks}: job {jobs or 'there before'}"


class TicksSkipped(_OfSchedule, level=logging.WARNING):
    """Ticks of a periodic job have become no job, and will not.

    Attributes:
        count: how many; above some thousands they are not counted on.
        first: the time of the first of them.
        last: that of the last.
        reason: why: ``missed``, ``too late``, or that a job is not over.
    """

    count: int
    first: dt.datetime
    last: dt.datetime
    reason: str

    def __str__(self) -> str:
        if self.count == 1:
            return f"periodic job {self.schedule}: tick {self.first} skipped: {self.reason}"
        return (
            f"periodic job {self.schedule}: {self.count} ticks skipped, {self.first} to "
            f"{self.last}: {self.reason}"
        )
