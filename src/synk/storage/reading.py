"""What the rows of an answer become."""

from __future__ import annotations

import datetime as dt
import json
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgspec

from synk.claim import ClaimedJob
from synk.failure import AttemptError
from synk.row import (
    FOR_EVER,
    CancelReason,
    JobList,
    JobRow,
    JobState,
    KindSummary,
    ListedJob,
    Priority,
    Progress,
)
from synk.status import ClientRow, QueueDepths, RecentError, Rescued, SlotStatus
from synk.unique import UniqueScope

if TYPE_CHECKING:
    from collections.abc import Callable

Rows: TypeAlias = list[tuple[Any, ...]]
Records: TypeAlias = list[dict[str, Any]]
"""Rows by the names of their columns."""

T = TypeVar("T")


def first_column(rows: Rows, _: int) -> list[Any]:
    """Returns what the statement answered with, in order."""
    return [row[0] for row in rows]


def first_value(rows: Rows, _: int) -> Any:
    """Returns the one value that the statement answered with; None if it had no row."""
    return rows[0][0] if rows else None


def changed(_: Rows, number: int) -> int:
    """Returns how many rows the statement changed."""
    return number


def claimed_jobs(queue: str, claim_seq: int) -> Callable[[Rows, int], list[ClaimedJob]]:
    """Returns what makes the jobs of one claim of the rows of claim.sql, most urgent first."""
    mine: tuple[Any, ...] = (queue, claim_seq)

    def read(rows: Rows, _: int) -> list[ClaimedJob]:
        jobs = [ClaimedJob(*(row + mine)) for row in rows]
        jobs.sort(key=_urgency)
        return jobs

    return read


_urgency: Final = attrgetter("priority", "scheduled_at", "id")


def nothing(_: Rows, __: int) -> None:
    """Returns nothing."""


def records(kind: Callable[..., T]) -> Callable[[Records, int], list[T]]:
    """Returns what makes a value of *kind* of each row."""
    return lambda rows, _: [kind(**row) for row in rows]


def hidden(rows: Records, _: int) -> str:
    """Returns what is to be said if roles may not see all rows."""
    told: list[str] = []
    for row in rows:
        role, tables = row["role"], row["tables"]
        if row["asks"]:
            harm = "jobs that it does not see never run, and others wait for them"
        else:
            harm = "the table's triggers have its rights, and let go of no job that it does not see"
        told.append(
            f"row-level security of {', '.join(tables)} applies to role {role}, and no policy lets "
            f"all rows through: {harm}: ALTER ROLE {role} BYPASSRLS, or for each table "
            f"CREATE POLICY all_rows ON {tables[0]} TO {role} USING (true)"
        )
    return "; ".join(told)


def hidden_from_readers(rows: Records, _: int) -> str:
    """Returns what is to be said with a listing."""
    for row in rows:
        tables, role = ", ".join(row["tables"]), row["role"]
        applies = f"row-level security of {tables} applies to role {role}"
        return f"{applies}: there may be more jobs than it sees"
    return ""


def job_rows(rows: Records, _: int) -> list[JobRow]:
    """Returns the jobs of get.sql."""
    return [JobRow(**_converted(row)) for row in rows]


def job_list(rows: Records, searched: int) -> JobList:
    """Returns the jobs of a listing; a row may only say that there is more behind it."""
    found = [ListedJob(**_converted(row)) for row in rows if not row.pop("is_behind")]
    return JobList(found, searched if len(found) < len(rows) else None)


def _converted(row: dict[str, Any]) -> dict[str, Any]:
    for name, convert in _CONVERSIONS.items():
        if name in row:
            row[name] = convert(row[name])
    return row


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


def client_rows(rows: Records, _: int) -> list[ClientRow]:
    """Returns the supervisors of clients.sql."""
    for row in rows:
        row["unseen"] = dt.timedelta(seconds=row["unseen"])
        row["slots"] = _records(row["slots"], list[SlotStatus])
        row["errors"] = _records(row["errors"], list[RecentError])
        row["stopped"] = row["stopped_at"] is not None
    return [ClientRow(**row) for row in rows]


def _records(text: str, kind: type[list[T]]) -> list[T]:
    """Returns what a supervisor said; nothing if that is of another form."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return []


def rescued(rows: Records, _: int) -> list[Rescued]:
    """Returns the attempts of rescue.sql."""
    return [Rescued(row["job_id"], row["attempt"], JobState(row["state"])) for row in rows]


def counts(rows: Records, _: int) -> dict[JobState, int]:
    """Returns the numbers of counts.sql."""
    return {JobState(row["state"]): row["count"] for row in rows}


def queue_depths(rows: Records, _: int) -> QueueDepths:
    """Returns the counts of queue_depths.sql."""

    def of(state: str) -> dict[str, int]:
        return {row["queue"]: row["count"] for row in rows if row["state"] == state}

    return QueueDepths(
        available=of("available"),
        running=of("running"),
        scheduled=sum(of("scheduled").values()),
    )


def _duration(microseconds: int | None) -> dt.timedelta | None:
    if microseconds is None:
        return None
    try:
        return dt.timedelta(microseconds=microseconds)
    except OverflowError:
        return dt.timedelta.max


def _keep(microseconds: int | None) -> dt.timedelta | None:
    keep = _duration(microseconds)
    return dt.timedelta.max if keep is not None and keep >= FOR_EVER else keep


def kind_summaries(rows: Records, _: int) -> list[KindSummary]:
    """Returns the kinds of summary.sql."""
    for row in rows:
        row["errors"] = row["errors"] or 0
        row["cpu_time"] = _duration(int(row["cpu_time"] or 0))
        for name in ("duration_p50", "duration_p95", "duration_max"):
            row[name] = _duration(row[name])
    return [KindSummary(**row) for row in rows]


_CONVERSIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "state": JobState,
    "priority": Priority,
    "args": _json,
    "errors": _errors,
    "cancel_reason": lambda reason: None if reason is None else CancelReason(reason),
    "result": _json,
    "duration": _duration,
    "cpu_time": _duration,
    "system_time": _duration,
    "output": lambda output: output or "",
    "progress": Progress.from_json,
    "checkpoint": _json,
    "unique": UniqueScope.from_json,
    "meta": lambda text: _json(text) or {},
    "keep": _keep,
}
"""What becomes of a job's columns; all others are as they come."""
