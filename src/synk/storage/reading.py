"""What the rows of an answer become."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgspec

from synk.failure import AttemptError
from synk.row import CancelReason, JobList, JobRow, JobState, KindSummary, Priority, Progress
from synk.status import Backlog, ClientRow, RecentError, SlotStatus, UnknownKind

if TYPE_CHECKING:
    from uuid import UUID

Rows: TypeAlias = list[tuple[Any, ...]]
T = TypeVar("T")

_HUGE: Final = 1e300
"""No share of a whole can be computed of a number beyond."""


def first_column(rows: Rows, _: int) -> list[int]:
    """Returns the numbers that the statement answered with, in order."""
    return [row[0] for row in rows]


def changed(_: Rows, number: int) -> int:
    """Returns how many rows the statement changed."""
    return number


def hidden(rows: Rows, _: int) -> str:
    """Returns what is to be said if roles may not see all rows: (role, whether it asks, tables)."""
    told: list[str] = []
    for role, asks, tables in rows:
        if asks:
            harm = "jobs that it does not see never run, and others wait for them"
        else:
            harm = "the table's triggers have its rights, and let go of no job that it does not see"
        told.append(
            f"row-level security of {', '.join(tables)} applies to role {role}, and no policy lets "
            f"all rows through: {harm}: ALTER ROLE {role} BYPASSRLS, or for each table "
            f"CREATE POLICY all_rows ON {tables[0]} TO {role} USING (true)"
        )
    return "; ".join(told)


def hidden_from_readers(rows: Rows, _: int) -> str:
    """Returns what is to be said with a listing."""
    for role, _, tables in rows:
        applies = f"row-level security of {', '.join(tables)} applies to role {role}"
        return f"{applies}: there may be more jobs than it sees"
    return ""


def job_rows(rows: Rows, _: int) -> list[JobRow]:
    """Returns the jobs of get.sql."""
    return [_job_row(row) for row in rows]


def job_list(rows: Rows, searched: int) -> JobList:
    """Returns the jobs of a listing, whose last column marks the one behind what was looked at."""
    found = [_job_row(row) for row in rows if not row[-1]]
    return JobList(found, searched if len(found) < len(rows) else None)


def _job_row(row: tuple[Any, ...]) -> JobRow:
    return JobRow(
        id=row[0],
        name=row[1],
        kind=row[2],
        queue=row[3],
        state=JobState(row[4]),
        priority=Priority(row[5]),
        args=_json(row[6]),
        attempt=row[7],
        max_attempts=row[8],
        uncounted=row[9],
        created_at=row[10],
        scheduled_at=row[11],
        attempted_at=row[12],
        finalized_at=row[13],
        attempted_by=row[14],
        depends_on=row[15],
        waiting_on=row[16],
        errors=_errors(row[17]),
        cancel_reason=None if row[18] is None else CancelReason(row[18]),
        cancel_requested_at=row[19],
        result=_json(row[20]),
        duration=_duration(row[21]),
        cpu_time=_duration(row[22]),
        system_time=_duration(row[23]),
        peak_rss_bytes=row[24],
        pid=row[25],
        host=row[26],
        crashes=row[27],
        output=row[28] or "",
        progress=progress_of(_json(row[29])),
        checkpoint=_json(row[30]),
        lost=row[31],
        idempotency_key=row[32],
    )


def _json(text: str | None) -> Any:
    """Returns what JSON text holds; the text itself if that is nothing that Python can read.

    PostgreSQL takes numbers of any length and a nesting of any depth.
    """
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _errors(text: str) -> list[AttemptError]:
    records = _json(text)
    if not isinstance(records, list):
        records = [records]
    return [AttemptError.from_dict(record) for record in cast("list[Any]", records)]


def progress_of(value: Any) -> Progress | None:
    """Returns the progress that JSON holds."""
    if not isinstance(value, dict):
        return None
    given = cast("dict[str, object]", value)
    note = given.get("note")
    return Progress(
        _number(given.get("done")) or 0,
        _number(given.get("total")),
        note if isinstance(note, str) else "",
    )


def _number(value: object) -> int | float | None:
    """Returns a number that can be computed with; None of anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE:
        return value
    return None


def client_row(row: tuple[Any, ...]) -> ClientRow:
    """Returns a supervisor of clients.sql."""
    return ClientRow(
        id=row[0],
        host=row[1],
        pid=row[2],
        version=row[3],
        processes=row[4],
        queues=row[5],
        started_at=row[6],
        seen_at=row[7],
        stopped_at=row[8],
        unseen=dt.timedelta(seconds=row[11]),
        slots=_records(row[9], list[SlotStatus]),
        errors=_records(row[10], list[RecentError]),
        kinds=row[12],
    )


def unknown_kinds(rows: Rows, _: int) -> list[UnknownKind]:
    """Returns what unknown_kinds.sql found."""
    return [
        UnknownKind(queue=queue, kind=kind, count=count, is_more=is_more, job_id=job_id)
        for queue, kind, count, is_more, job_id in rows
    ]


def _records(text: str, kind: type[list[T]]) -> list[T]:
    """Returns what a supervisor said; nothing if that is of another form."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return []


def owners(rows: Rows, _: int) -> list[UUID]:
    """Returns the ids of supervisors."""
    return [row[0] for row in rows]


def backlog(rows: Rows, _: int) -> Backlog:
    """Returns the counts of backlog.sql."""
    return Backlog(
        available={queue: count for queue, state, count in rows if state == "available"},
        running={queue: count for queue, state, count in rows if state == "running"},
        scheduled=sum(count for _, state, count in rows if state == "scheduled"),
    )


def _duration(microseconds: int | None) -> dt.timedelta | None:
    if microseconds is None:
        return None
    try:
        return dt.timedelta(microseconds=microseconds)
    except OverflowError:
        return dt.timedelta.max


def kind_summary(row: tuple[Any, ...]) -> KindSummary:
    """Returns a kind of summary.sql."""
    return KindSummary(
        kind=row[0],
        completed=row[1],
        cancelled=row[2],
        failed=row[3],
        unfinished=row[4],
        errors=row[5] or 0,
        duration_p50=_duration(row[6]),
        duration_p95=_duration(row[7]),
        duration_max=_duration(row[8]),
        cpu_time=_duration(int(row[9] or 0)) or dt.timedelta(),
        peak_rss_bytes=row[10],
    )
