"""What must hold of jobs, whoever looks: of every change of a row, and of what was executed.

Two views that know nothing of each other: how the rows became what they are (`History`, made of an
`Image` of the row before and after each change), and a log of executions that the handlers
themselves wrote somewhere else (`Execution`). It is for those who test a storage by chance or by
chaos:

    history = History()
    history.take(None, image)        # the row appeared
    history.take(image, later)       # for each change of each row, in order
    assert history.broken == []

Nothing here reads a clock or asks a storage. The rules are numbered, and the numbers are in the
names of what checks them:

====  ============================================================  ==========================
I1    what was inserted is there                                    `i1_missing`
I2    in the end every job is completed or cancelled, once          `i2_unfinished`, `History`
I3    final states are left on request only                         `History`
I4    a state becomes only what may become of it                    `History`
I5    attempts are numbered by claims                               `History`
I6    an attempt is of one claim of one supervisor                  `History`
I7    of an attempt one outcome is accepted                         `History`
I8    an outcome that is refused changes nothing                    `StorageConformance`
I9    the columns of a row fit its state                            `History`
I10   no attempt beyond the last                                    `History`
I11   an error for each attempt that failed, was killed or lost     `History`
I12   none for a success, and that was executed to its end          `i12_unexecuted`, `History`
I13   each execution has a claim, and each claim one at most        `History.i13_invented`,
                                                                    `i13_repeated`
I14   two executions overlap only after a lost lease                `i14_overlaps`
I15   nothing runs for much longer than its timeout                 `i15_too_long`
I21   a supervisor runs no more at once than it has processes       `i21_most_at_once`
I22   what was cancelled does not begin afterwards                  `i22_begun_later`
I24   nothing begins before its time                                `History`
====  ============================================================  ==========================

What rows and executions do not show is looked at where it shows: processes that are left (I16) and
what a supervisor holds (I17) in `tests/runtime` and `tests/lifecycle`; progress (I18), the time
until a rescue (I19) and no rescue of the living (I20) in `tests/simulation`; rows that nobody can
read among others (I23) in `tests/faults`; secrets (I25) in `tests/storage` and `tests/faults`. Of
I24, that a key is of one job is the table's own rule.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synk.row import JobState

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from synk.row import JobRow

_A, _S, _P = JobState.AVAILABLE, JobState.SCHEDULED, JobState.PENDING
_R, _DONE, _OFF = JobState.RUNNING, JobState.COMPLETED, JobState.CANCELLED

LEGAL: Final[dict[JobState | None, set[JobState | None]]] = {
    None: {_A, _S, _P, _OFF},
    _P: {_A, _S, _OFF, None},
    _S: {_A, _OFF, None},
    _A: {_R, _OFF, None},
    _R: {_DONE, _OFF, _S, _A},
    _DONE: {_A, _P, None},
    _OFF: {_A, _P, None},
}
"""What may become of a job in each state; None: there is no row."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a job breaks.

    Attributes:
        rule: its number and name.
        job_id: the job.
        problem: what it did instead, as a sentence.
    """

    rule: str
    job_id: int
    problem: str

    def __str__(self) -> str:
        return f"{self.rule}: job {self.job_id}: {self.problem}"


# -- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A row at one moment, as far as the rules look at it.

    Attributes:
        id: the job.
        state: where it stands, as all others see `JobRow`.
        attempt: how many times it was claimed.
        uncounted: attempts that are not charged.
        max_attempts: how many charged attempts it has in all.
        owner: the client whose claim it is; None: nobody's.
        claim_seq: the number of that claim.
        scheduled_at: not before this time.
        attempted_at: when the last attempt was claimed.
        finalized_at: when it ended.
        failed: the numbers of the attempts whose errors it keeps.
        snoozes: how often it has snoozed.
    """

    id: int
    state: JobState
    attempt: int
    uncounted: int
    max_attempts: int
    owner: str | None
    claim_seq: int | None
    scheduled_at: dt.datetime
    attempted_at: dt.datetime | None
    finalized_at: dt.datetime | None
    failed: tuple[int, ...]
    snoozes: int = 0


def image_of(row: JobRow, owner: str | None, claim_seq: int | None) -> Image:
    """Returns the image of a row; whose claim it is, `Storage.get` does not say."""
    return Image(
        id=row.id,
        state=row.state,
        attempt=row.attempt,
        uncounted=row.uncounted,
        max_attempts=row.max_attempts,
        owner=owner,
        claim_seq=claim_seq,
        scheduled_at=row.scheduled_at,
        attempted_at=row.attempted_at,
        finalized_at=row.finalized_at,
        failed=tuple(error.attempt for error in row.errors),
        snoozes=row.snoozes,
    )


@dataclass(frozen=True, slots=True)
class _Change:
    before: Image | None
    after: Image | None
    on_request: bool

    @property
    def begun(self) -> Image | None:
        """The row, if this is a claim."""
        if self.after is None or self.after.state is not _R:
            return None
        was_same = self.before is not None and _claim(self.before) == _claim(self.after)
        return None if was_same else self.after

    @property
    def ended(self) -> Image | None:
        """The row before, if this ends an attempt."""
        if self.before is None or self.before.state is not _R:
            return None
        is_same = self.after is not None and _claim(self.before) == _claim(self.after)
        return None if is_same else self.before


class History:
    """Takes in every change of every row, in order, and notes which rules they break.

    Attributes:
        broken: the rules that were broken, in order.
        changes: how many changes there were.
        claims: who claimed an attempt: (job, attempt) -> (owner, claim_seq).
        ends: how often each attempt of a job ended.
    """

    def __init__(self) -> None:
        self.broken: list[Broken] = []
        self.changes = 0
        self.claims: dict[tuple[int, int], tuple[str | None, int | None]] = {}
        self.ends: Counter[tuple[int, int]] = Counter()

    def take(self, before: Image | None, after: Image | None, *, on_request: bool = False) -> None:
        """Takes in what became of one row.

        Args:
            before: the row until now; None: there was none.
            after: the row from now on; None: there is none any more.
            on_request: whether it was retried, deleted or cleaned: nothing else may do such things.
        """
        known = before or after
        if known is None or before == after:
            return
        self.changes += 1
        change = _Change(before, after, on_request)
        for name, rule in _RULES.items():
            if problem := rule(change):
                self.broken.append(Broken(name, known.id, problem))
        for name, problem in self._about_attempts(change):
            self.broken.append(Broken(name, known.id, problem))

    def _about_attempts(self, change: _Change) -> Iterator[tuple[str, str]]:
        if (row := change.begun) is not None:
            claim = (row.owner, row.claim_seq)
            known = self.claims.setdefault((row.id, row.attempt), claim)
            if known != claim:
                yield "I6 one owner", f"attempt {row.attempt} is of {known} and of {claim}"
        if (row := change.ended) is not None:
            self.ends[row.id, row.attempt] += 1
            if self.ends[row.id, row.attempt] > 1:
                yield "I7 one outcome", f"attempt {row.attempt} ended twice"

    def i13_invented(self, executions: Iterable[Execution]) -> list[Broken]:
        """Returns those of *executions* whose attempts their supervisor never claimed."""
        return [
            Broken("I13 no invented work", each.job_id, f"attempt {each.attempt} was not claimed")
            for each in executions
            if self.claims.get((each.job_id, each.attempt)) != (each.owner, each.claim_seq)
        ]


def _i3_final(change: _Change) -> str | None:
    if change.before is None or not change.before.state.is_final or change.on_request:
        return None
    became = None if change.after is None else change.after.state
    if became is change.before.state:
        return None
    return f"it was {change.before.state} and became {became}, which nobody asked for"


def _i4_legal(change: _Change) -> str | None:
    was = None if change.before is None else change.before.state
    became = None if change.after is None else change.after.state
    if was is became and change.begun is None:
        return None
    if became is None and not change.on_request:
        return f"it was {was} and vanished"
    return None if became in LEGAL[was] else f"it was {was} and became {became}"


def _i5_attempt(change: _Change) -> str | None:
    was = 0 if change.before is None else change.before.attempt
    if change.after is None or change.after.attempt == was + (change.begun is not None):
        return None
    return f"attempt went from {was} to {change.after.attempt}, now {change.after.state}"


def _i9_columns(change: _Change) -> str | None:
    row = change.after
    if row is None:
        return None
    is_owned = row.owner is not None
    # What a worker of the Go package runs has no owner.
    if is_owned != (row.claim_seq is not None) or (is_owned and row.state is not _R):
        return f"it is {row.state}, its owner {row.owner}, its claim {row.claim_seq}"
    if row.state is _R and row.attempted_at is None:
        return "it runs since no time"
    if row.state.is_final != (row.finalized_at is not None):
        return f"it is {row.state} and ended at {row.finalized_at}"
    return None


def _i10_charged(change: _Change) -> str | None:
    row = change.begun
    if row is None or row.attempt - row.uncounted <= row.max_attempts:
        return None
    charged = row.attempt - row.uncounted
    return f"attempt {row.attempt} is number {charged} that counts, of {row.max_attempts}"


def _i11_error(change: _Change) -> str | None:
    was, row = change.ended, change.after
    if was is None or row is None:
        return None
    count = row.failed.count(was.attempt)
    failed = row.state is not _DONE and row.uncounted == was.uncounted
    if count == failed:
        return None
    return f"attempt {was.attempt} became {row.state} and left {count} errors"


def _snoozed(change: _Change) -> str | None:
    was, row = change.before, change.after
    if was is None or row is None or row.snoozes == was.snoozes:
        return None
    if change.ended is None:
        return f"it has snoozed {row.snoozes} times, and no attempt of it has ended"
    if (row.snoozes, row.uncounted) == (was.snoozes + 1, was.uncounted + 1):
        return None
    return f"attempt {was.attempt} made {row.snoozes} snoozes of {was.snoozes}, or was charged"


def _i24_time(change: _Change) -> str | None:
    row = change.begun
    if row is None or row.attempted_at is None or row.attempted_at >= row.scheduled_at:
        return None
    return f"attempt {row.attempt} began at {row.attempted_at}, before {row.scheduled_at}"


_RULES: Final[dict[str, Callable[[_Change], str | None]]] = {
    "I3 final states are left on request only": _i3_final,
    "I4 legal changes": _i4_legal,
    "I5 attempts are numbered by claims": _i5_attempt,
    "I9 columns fit the state": _i9_columns,
    "I10 no attempt beyond the last": _i10_charged,
    "I11 and I12 an error for each failure, and none else": _i11_error,
    "each snooze counts once, and is not charged": _snoozed,
    "I24 no attempt before its time": _i24_time,
}


def _claim(row: Image) -> tuple[JobState, int, str | None, int | None]:
    return (row.state, row.attempt, row.owner, row.claim_seq)


def i1_missing(inserted: Iterable[int], rows: Collection[int]) -> list[Broken]:
    """Returns the jobs whose insert was confirmed, and which have no row."""
    return [
        Broken("I1 nothing is lost", job_id, "its insert was confirmed, and there is no row")
        for job_id in inserted
        if job_id not in rows
    ]


def i2_unfinished(images: Iterable[Image]) -> list[Broken]:
    """Returns the rows that are in no final state; for when everything has had its time."""
    return [
        Broken("I2 every job ends", row.id, f"it is {row.state}, its attempt {row.attempt}")
        for row in images
        if not row.state.is_final
    ]


# -- executions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a handler, as that itself noted it. Times are seconds of one clock for all.

    Attributes:
        job_id: the job.
        attempt: the number of the attempt.
        claim_seq: the number of the claim.
        owner: the client whose claim it is.
        began: when it began.
        seen: the last sign of life.
        is_whole: whether it came to its end.
    """

    job_id: int
    attempt: int
    claim_seq: int
    owner: str
    began: float
    seen: float
    is_whole: bool


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two executions of one job at one time: the first must have lost its lease before.

    Attributes:
        first: the one that began first.
        second: the other one.
    """

    first: Execution
    second: Execution

    @property
    def seconds(self) -> float:
        """For how long both are known to have run."""
        return min(self.first.seen, self.second.seen) - self.second.began


def i14_overlaps(executions: Iterable[Execution]) -> list[Overlap]:
    """Returns the executions of one job that ran at one time. Whether they may have, see there."""
    by_job: dict[int, list[Execution]] = {}
    for each in executions:
        by_job.setdefault(each.job_id, []).append(each)
    found: list[Overlap] = []
    for runs in by_job.values():
        running: list[Execution] = []
        for later in sorted(runs, key=lambda run: run.began):
            running = [run for run in running if run.seen > later.began]
            found += [Overlap(run, later) for run in running]
            running.append(later)
    return found


def i12_unexecuted(completed: Iterable[Image], executions: Iterable[Execution]) -> list[Broken]:
    """Returns the completed rows whose last attempt has no whole execution.

    That of an earlier attempt does not count: its outcome was refused.
    """
    whole = {(each.job_id, each.attempt) for each in executions if each.is_whole}
    return [
        Broken("I12 completed means executed", row.id, f"attempt {row.attempt} never ended")
        for row in completed
        if (row.id, row.attempt) not in whole
    ]


def i13_repeated(executions: Iterable[Execution]) -> list[Broken]:
    """Returns the executions under a claim under which there was one already."""
    seen = set[tuple[int, int, str, int]]()
    broken: list[Broken] = []
    for each in executions:
        claim = (each.job_id, each.attempt, each.owner, each.claim_seq)
        if claim in seen:
            broken.append(Broken("I13 once a claim", each.job_id, f"attempt {each.attempt}"))
        seen.add(claim)
    return broken


def i15_too_long(
    executions: Iterable[Execution], longest_s: Callable[[Execution], float]
) -> list[Broken]:
    """Returns the executions that went on for longer than they may."""
    return [
        Broken("I15 a timeout is a kill", each.job_id, f"it ran for {each.seen - each.began:.1f} s")
        for each in executions
        if each.seen - each.began > longest_s(each)
    ]


def i22_begun_later(
    cancelled_at: Mapping[int, float], executions: Iterable[Execution]
) -> list[Broken]:
    """Returns the executions that began after their job was cancelled.

    Args:
        cancelled_at: when it was answered, for each job, that it is cancelled.
        executions: of any jobs.
    """
    return [
        Broken("I22 cancelled means off", each.job_id, f"attempt {each.attempt} began afterwards")
        for each in executions
        if each.began > cancelled_at.get(each.job_id, float("inf"))
    ]


def i21_most_at_once(executions: Iterable[Execution]) -> dict[str, int]:
    """Returns how many jobs each supervisor ran at one time at the most."""
    events: dict[str, list[tuple[float, int]]] = {}
    for each in executions:
        events.setdefault(each.owner, []).extend([(each.began, 1), (each.seen, -1)])
    most: dict[str, int] = {}
    for owner, changes in events.items():
        running = 0
        for _, change in sorted(changes):
            running += change
            most[owner] = max(most.get(owner, 0), running)
    return most


def l1_crowds(executions: Iterable[Execution], limit: int) -> list[list[Execution]]:
    """Returns those of one key that ran at one time where they were more than *limit*.

    One for each that began beside as many as there may be; that one is the last.
    """
    found: list[list[Execution]] = []
    running: list[Execution] = []
    for later in sorted(executions, key=lambda run: run.began):
        running = [run for run in running if run.seen > later.began]
        running.append(later)
        if len(running) > limit:
            found.append(list(running))
    return found
