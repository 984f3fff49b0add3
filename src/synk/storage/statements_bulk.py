"""The statements of `synk.storage.bulking`, and the order in which they are run.

A walk knows the next statement, and is told its answer; who runs them, awaited or not, is not its
matter.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from synk.bulk import Changes, Found, JobFilter
from synk.errors import StorageConflict
from synk.row import Change
from synk.storage.statement import Statement, StatementsOfSchema

if TYPE_CHECKING:
    from synk.errors import SynkError
    from synk.storage.bulking import Verb

BATCH_JOBS: Final = 1_000
"""Jobs that a transaction changes at the most: it takes a tenth of a second."""

SEARCHED_JOBS: Final = 20_000
"""Jobs that one statement looks at for those that match."""

COUNTED_JOBS: Final = 100_000
_COUNT_SEARCHED: Final = 2_000_000
"""It is counted up to there, and so many are looked at, which takes some seconds."""

_BEGINNING: Final = dt.datetime(1, 1, 1, tzinfo=dt.UTC)

_OF_ONE_JOB: Final = ("SY003", "SY005", "23505")
"""It waits for one that is gone, or something else is in its unique place by now."""

Cursor: TypeAlias = "tuple[dt.datetime, int]"


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer of one statement of a walk.

    Attributes:
        answers: how many jobs had which.
        after: where the next one begins; None: it is over.
    """

    answers: dict[str, int]
    after: Cursor | None


class BulkStatements(StatementsOfSchema):
    """Many jobs at once."""

    def bulk_bounds(self, wanted: JobFilter) -> Statement[JobFilter]:
        """Answers the filter for what is there now."""
        return self._asking("bulk_bounds", lambda rows, _: wanted.bound(**rows[0]), binary=True)

    def bulk(
        self,
        name: str,
        wanted: JobFilter,
        after: Cursor,
        limit: int,
        *,
        singly: bool = False,
    ) -> Statement[Batch]:
        """Does the statement of that name to the next jobs of a filter that is bound."""
        assert wanted.ids is not None  # noqa: S101 - it is bound
        error = wanted.error
        return self._asking(
            name,
            _batch,
            binary=True,
            state=wanted.state,
            reason=wanted.reason,
            kind=wanted.kind,
            queue=wanted.queue,
            tags=list(wanted.tags) or None,
            since=wanted.since,
            until=wanted.until,
            low=wanted.ids[0],
            high=wanted.ids[1],
            error=error,
            error_like=None if error is None else f"%.{_literal(error)}",
            by_end=wanted.ended is not None,
            ended=wanted.ended,
            after_at=after[0],
            after_id=after[1],
            limit=limit,
            searched=SEARCHED_JOBS,
            **({"singly": singly} if name == "retry_many" else {}),
        )


def _literal(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _batch(rows: list[dict[str, object]], _: int) -> Batch:
    row = rows[0]
    after_at, after_id = row["after_at"], row["after_id"]
    after = None
    if isinstance(after_id, int):
        after = (after_at if isinstance(after_at, dt.datetime) else _BEGINNING, after_id)
    return Batch(json.loads(str(row["answers"] or "{}")), after)


def first(wanted: JobFilter) -> Cursor:
    """Returns where a walk of a bound filter begins."""
    assert wanted.ids is not None  # noqa: S101 - as above
    if wanted.ended is None:
        return _BEGINNING, wanted.ids[0] - 1
    return (wanted.since if isinstance(wanted.since, dt.datetime) else _BEGINNING), 0


class CountWalk:
    """Counts the jobs of a bound filter."""

    def __init__(self, statements: BulkStatements, wanted: JobFilter) -> None:
        self._statements = statements
        self._wanted = wanted
        self._after: Cursor | None = first(wanted)
        self._searched = 0
        self._count = 0

    def next(self) -> Statement[Batch] | None:
        """Returns the next statement; None: it is over."""
        room = COUNTED_JOBS - self._count
        if self._after is None or room <= 0 or self._searched >= _COUNT_SEARCHED:
            return None
        self._searched += SEARCHED_JOBS
        return self._statements.bulk("bulk_count", self._wanted, self._after, room)

    def took(self, batch: Batch) -> None:
        """Takes in the answer."""
        self._count += batch.answers["found"]
        self._after = batch.after

    def found(self) -> Found:
        """Returns the result."""
        return Found(count=self._count, is_more=self._after is not None, filter=self._wanted)


class ChangeWalk:
    """Changes the jobs of a bound filter.

    Attributes:
        changes: what became of them so far.
    """

    def __init__(
        self, statements: BulkStatements, verb: Verb, wanted: JobFilter, limit: int | None
    ) -> None:
        self._statements = statements
        self._verb: Verb = verb
        self._limit = limit
        self._size = BATCH_JOBS
        self._singly = False
        self._after: Cursor | None = first(wanted)
        self.changes = Changes(filter=wanted)

    def next(self) -> Statement[Batch] | None:
        """Returns the next statement; None: it is over."""
        room = self._size
        if self._limit is not None:
            room = min(room, self._limit - self.changes.looked)
        if self._after is None or room <= 0:
            return None
        return self._statements.bulk(
            self._verb, self.changes.filter, self._after, room, singly=self._singly
        )

    def took(self, batch: Batch) -> None:
        """Takes in the answer."""
        for answer, number in batch.answers.items():
            if answer == "skipped":
                self.changes.skipped += number
            else:
                self.changes.counts[Change(answer)] += number
        self._after = batch.after
        self._size = min(BATCH_JOBS, self._size * 2)
        self._singly = False

    def goes_on_after(self, error: SynkError) -> bool:
        """Whether it goes on after a batch of which nothing was done.

        Where one job kept all of them from beginning anew, each is tried by itself; where the
        server gave up on locks or time, fewer are.
        """
        if getattr(error.__cause__, "sqlstate", None) in _OF_ONE_JOB and not self._singly:
            self._singly = self._verb == "retry_many"
            return self._singly
        if not isinstance(error, StorageConflict) or self._size == 1:
            return False
        self._size = max(1, self._size // 4)
        return True
