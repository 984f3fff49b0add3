"""The statements of `synk.storage.sweeping`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synk.storage.statement import StatementsOfSchema
from synk.storage.sweeping import Cleaned, Swept

if TYPE_CHECKING:
    import datetime as dt

    from synk.row import JobState
    from synk.storage.statement import Statement


class SweepingStatements(StatementsOfSchema):
    """What becomes of jobs by the time alone."""

    def sweep(self, limit: int) -> Statement[Swept]:
        """See `Sweeping.sweep`."""
        return self._asking("sweep", lambda rows, _: Swept(**rows[0]), limit=limit)

    def cleaner(
        self,
        state: JobState,
        retention: dt.timedelta,
        *,
        limit: int,
        after: dt.datetime | None = None,
    ) -> Statement[Cleaned]:
        """See `Sweeping.clean`."""
        return self._asking(
            "cleaner",
            lambda rows, _: Cleaned(**rows[0]),
            binary=True,
            state=state.value,
            retention=retention,
            limit=limit,
            after=after,
        )
