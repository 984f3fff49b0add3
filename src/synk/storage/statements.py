"""Every question to the database as a value: its text, its parameters, how its answer is read.

The sync and the async storage run these, and know nothing more about them. No I/O here.
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

import msgspec

from synk.claim import AckAnswer, ClaimedJob, Fence
from synk.failure import AttemptError
from synk.retry import POISON_CRASHES
from synk.row import CancelReason, Change, JobRow, JobState, KindSummary, Priority, Progress
from synk.status import (
    BACKLOG_COUNTED,
    Backlog,
    Beat,
    ClientRow,
    Lease,
    RecentError,
    Rescued,
    SlotStatus,
)
from synk.storage import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import LiteralString
    from uuid import UUID

    from synk.claim import Mark, Outcome
    from synk.insertion import InsertOptions, NewJob
    from synk.status import ClientStatus, JobNotes

_BEGINNING: Final[Mark] = (float("-inf"), 0)

T = TypeVar("T")
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One statement. `read` makes the answer of its rows and of the number of rows it changed."""

    text: LiteralString
    parameters: dict[str, object]
    read: Callable[[Rows, int], T]
    binary: bool = False
    """Whether the rows are asked for in binary: faster to read, worth it for many rows."""


class Statements:
    """The statements for one schema."""

    def __init__(self, schema: str = sql.DEFAULT_SCHEMA) -> None:
        self.schema = sql.check_schema(schema)

    def _text(self, name: str) -> LiteralString:
        return sql.statement(name, self.schema)

    def schema_version(self) -> Statement[int]:
        return Statement(
            sql.migration_version(self.schema), {}, lambda rows, _: int(rows[0][0] or 0)
        )

    def insert(self, job: NewJob) -> Statement[list[int]]:
        return Statement(self._text("insert"), _insert_parameters(job), _first_column)

    def insert_many(self, jobs: Sequence[NewJob]) -> Statement[list[int]]:
        if any(job.options.idempotency_key is not None for job in jobs):
            sent, places = _once_a_key(jobs)
            parameters = _insert_many_parameters(sent)
            parameters["each_idempotency_key"] = [job.options.idempotency_key for job in sent]
            return Statement(
                self._text("insert_many_once"),
                parameters,
                lambda rows, _: [rows[place][0] for place in places],
            )
        return Statement(
            self._text("insert_many"), _insert_many_parameters(jobs), _first_column, binary=True
        )

    def claim(
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        after: Mapping[int, Mark] | None = None,
    ) -> Statement[list[ClaimedJob]]:
        marks = [(after or {}).get(priority, _BEGINNING) for priority in Priority]

        def read(rows: Rows, _: int) -> list[ClaimedJob]:
            mine: tuple[Any, ...] = (queue, claim_seq)
            jobs = [ClaimedJob(*(row + mine)) for row in rows]
            jobs.sort(key=_urgency)
            return jobs

        parameters: dict[str, object] = {
            "queue": queue,
            "limit": limit,
            "kinds": list(kinds),
            "owner": owner,
            "claim_seq": claim_seq,
            "client_id": client_id_of(owner),
            "marks_at": [at for at, _ in marks],
            "marks_id": [job_id for _, job_id in marks],
        }
        return Statement(self._text("claim"), parameters, read, binary=True)

    def ack(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int]:
        """Applies *outcomes*; the answer is how many of them were applied."""
        parameters = _ack_parameters(owner, outcomes)
        for name, get in _RARE_COLUMNS.items():
            parameters[name] = [get(outcome) for outcome in outcomes]
        return Statement(self._text("ack"), parameters, _changed)

    def ack_plain(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[int] | None:
        """The same for successes that left nothing but their measures; None if there are others."""
        if not all(map(_is_plain, outcomes)):
            return None
        return Statement(self._text("ack_plain"), _ack_parameters(owner, outcomes), _changed)

    def ack_answers(self, owner: UUID, outcomes: Sequence[Outcome]) -> Statement[list[AckAnswer]]:
        parameters = _fence_parameters(outcomes)
        parameters["owner"] = owner
        return Statement(
            self._text("ack_answers"),
            parameters,
            lambda rows, _: [AckAnswer(answer) for (answer,) in rows],
        )

    def cancel(self, job_id: int) -> Statement[Change]:
        return self._change("cancel", job_id)

    def retry(self, job_id: int) -> Statement[Change]:
        return self._change("retry", job_id)

    def delete(self, job_id: int) -> Statement[Change]:
        return self._change("delete", job_id)

    def ready(self, job_id: int) -> Statement[Change]:
        return self._change("ready", job_id)

    def _change(self, name: str, job_id: int) -> Statement[Change]:
        return Statement(self._text(name), {"id": job_id}, lambda rows, _: Change(rows[0][0]))

    def clean(self, state: JobState, retention: dt.timedelta, limit: int) -> Statement[int]:
        parameters: dict[str, object] = {
            "state": state.value,
            "retention": retention,
            "limit": limit,
        }
        return Statement(self._text("clean"), parameters, lambda rows, _: int(rows[0][0]))

    def stage(self, limit: int) -> Statement[int]:
        return Statement(self._text("stage"), {"limit": limit}, _changed)

    def get(self, job_ids: Sequence[int]) -> Statement[list[JobRow]]:
        return Statement(self._text("get"), {"ids": list(job_ids)}, _job_rows)

    def jobs(
        self, *, state: JobState | None, queue: str | None, kind: str | None, limit: int
    ) -> Statement[list[JobRow]]:
        parameters: dict[str, object] = {
            "state": None if state is None else state.value,
            "queue": queue,
            "kind": kind,
            "limit": limit,
        }
        return Statement(self._text("jobs"), parameters, _job_rows)

    def counts(self, queue: str | None) -> Statement[dict[JobState, int]]:
        return Statement(
            self._text("counts"),
            {"queue": queue},
            lambda rows, _: {JobState(state): number for state, number in rows},
        )

    def summary(self, queue: str | None) -> Statement[list[KindSummary]]:
        return Statement(
            self._text("summary"), {"queue": queue}, lambda rows, _: [_kind(row) for row in rows]
        )

    def cancel_requests(self, owner: UUID) -> Statement[list[Fence]]:
        return Statement(
            self._text("cancel_requests"),
            {"owner": owner},
            lambda rows, _: [Fence(*row) for row in rows],
        )

    def note(self, owner: UUID, notes: Sequence[JobNotes]) -> Statement[int]:
        parameters = _fence_parameters([note.fence for note in notes])
        parameters["owner"] = owner
        parameters["progress"] = [note.progress for note in notes]
        parameters["checkpoints"] = [note.checkpoint for note in notes]
        return Statement(self._text("note"), parameters, _changed)

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> Statement[None]:
        parameters: dict[str, object] = {
            "id": status.id,
            "host": status.host,
            "pid": status.pid,
            "version": status.version,
            "processes": status.processes,
            "queues": list(status.queues),
            "ttl": ttl,
        }
        return Statement(self._text("register_client"), parameters, lambda _rows, _: None)

    def heartbeat(self, owner: UUID) -> Statement[Beat | None]:
        return Statement(
            self._text("heartbeat"),
            {"owner": owner},
            lambda rows, _: Beat(*rows[0]) if rows else None,
        )

    def leases(self) -> Statement[list[Lease]]:
        return Statement(self._text("leases"), {}, lambda rows, _: [Lease(*row) for row in rows])

    def declare_dead(self, suspects: Sequence[Lease]) -> Statement[list[UUID]]:
        parameters: dict[str, object] = {
            "ids": [lease.owner for lease in suspects],
            "beats": [lease.beat for lease in suspects],
        }
        return Statement(self._text("declare_dead"), parameters, _owners)

    def dead_owners(self) -> Statement[list[UUID]]:
        return Statement(self._text("dead_owners"), {}, _owners)

    def rescue(self, dead: Sequence[UUID], limit: int) -> Statement[list[Rescued]]:
        parameters: dict[str, object] = {
            "dead": list(dead),
            "limit": limit,
            "lost_max": POISON_CRASHES,
        }
        return Statement(
            self._text("rescue"),
            parameters,
            lambda rows, _: [Rescued(row[0], row[1], JobState(row[2])) for row in rows],
        )

    def running(self, owner: UUID) -> Statement[list[ClaimedJob]]:
        return Statement(
            self._text("running"),
            {"owner": owner},
            lambda rows, _: [ClaimedJob(*row) for row in rows],
        )

    def report_client(self, status: ClientStatus) -> Statement[None]:
        parameters: dict[str, object] = {
            "id": status.id,
            "slots": msgspec.json.encode(status.slots).decode(),
            "errors": msgspec.json.encode(status.errors).decode(),
            "stopped": status.stopped,
        }
        return Statement(self._text("report_client"), parameters, lambda _rows, _: None)

    def clients(self, within: dt.timedelta) -> Statement[list[ClientRow]]:
        return Statement(
            self._text("clients"),
            {"within": within},
            lambda rows, _: [_client_row(row) for row in rows],
        )

    def forget_clients(self) -> Statement[int]:
        return Statement(self._text("forget_clients"), {}, _changed)

    def ask_stack(self, job_id: int) -> Statement[int | None]:
        return Statement(
            self._text("ask_stack"), {"id": job_id}, lambda rows, _: rows[0][0] if rows else None
        )

    def backlog(self) -> Statement[Backlog]:
        return Statement(self._text("backlog"), {"limit": BACKLOG_COUNTED}, _backlog)

    def stack_questions(self, owner: UUID) -> Statement[list[tuple[int, int]]]:
        return Statement(
            self._text("stack_questions"),
            {"owner": owner},
            lambda rows, _: [(row[0], row[1]) for row in rows],
        )

    def answer_stack(self, question: int, answer: str) -> Statement[None]:
        return Statement(
            self._text("answer_stack"),
            {"id": question, "answer": answer},
            lambda _rows, _: None,
        )

    def stack_answer(self, question: int) -> Statement[str | None]:
        return Statement(
            self._text("stack_answer"),
            {"id": question},
            lambda rows, _: rows[0][0] if rows else None,
        )


def client_id_of(owner: UUID) -> str:
    """Returns the client's id, a ULID in its usual spelling, of its owner column."""
    from ulid import ULID  # noqa: PLC0415 - psycopg and ulid load only where a database is used

    return str(ULID.from_uuid(owner))


_urgency = attrgetter("priority", "scheduled_at", "id")


def _first_column(rows: Rows, _: int) -> list[int]:
    return [row[0] for row in rows]


def _insert_parameters(job: NewJob) -> dict[str, object]:
    return {
        **_option_columns(job.options),
        "kind": job.kind,
        "args": job.args,
        "name": job.name,
        "idempotency_key": job.options.idempotency_key,
    }


def _option_columns(options: InsertOptions) -> dict[str, object]:
    if options.pending:
        state = JobState.PENDING
    elif options.scheduled_at is not None:
        state = JobState.SCHEDULED
    else:
        state = JobState.AVAILABLE
    return {
        "queue": options.queue,
        "max_attempts": options.max_retries + 1,
        "state": state.value,
        "scheduled_at": options.scheduled_at,
        "priority": int(options.priority),
        "depends_on": _literal(options.depends_on),
    }


def _insert_many_parameters(jobs: Sequence[NewJob]) -> dict[str, object]:
    """Returns each column as one value, if it is the same in all of *jobs*, or else as an array."""
    # Many jobs share one object of options, or all do.
    of_options = {id(options): options for options in [job.options for job in jobs]}
    columns_of = {key: _option_columns(options) for key, options in of_options.items()}
    rows = [columns_of[id(job.options)] for job in (jobs if len(columns_of) > 1 else jobs[:1])]
    columns: dict[str, list[object]] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["name"] = [job.name for job in jobs]
    columns["kind"] = [job.kind for job in jobs]
    parameters: dict[str, object] = {"args": f"[{','.join([job.args for job in jobs])}]"}
    for name, values in columns.items():
        is_same = values.count(values[0]) == len(values)
        parameters[name] = values[0] if is_same else None
        parameters[f"each_{name}"] = [] if is_same else values
    return parameters


def _once_a_key(jobs: Sequence[NewJob]) -> tuple[list[NewJob], list[int]]:
    """Returns the first job of each key and all without one, and the place of each job among them.

    One statement cannot insert a row and find it taken.
    """
    sent: list[NewJob] = []
    place_of: dict[str, int] = {}
    places: list[int] = []
    for job in jobs:
        key = job.options.idempotency_key
        place = len(sent) if key is None else place_of.setdefault(key, len(sent))
        if place == len(sent):
            sent.append(job)
        places.append(place)
    return sent, places


def _literal(values: Iterable[int | None]) -> str:
    """Returns PostgreSQL's text for an array of numbers, made without a look at each of them."""
    return "{" + str(list(values))[1:-1].replace("None", "NULL") + "}"


def _is_plain(outcome: Outcome) -> bool:
    """Whether it is a success that left nothing but its measures."""
    return (
        outcome.state is JobState.COMPLETED
        and outcome.result is None
        and outcome.output is None
        and outcome.progress is None
    )


def _changed(_rows: Rows, changed: int) -> int:
    return changed


def _ack_parameters(owner: UUID, outcomes: Sequence[Outcome]) -> dict[str, object]:
    parameters = _fence_parameters(outcomes)
    parameters["owner"] = owner
    parameters["durations_us"] = _literal([o.duration_us for o in outcomes])
    parameters["cpu_us"] = _literal([o.cpu_us for o in outcomes])
    # Too short to ask for: left out.
    parameters["system_us"] = _literal(
        [o.system_us if o.peak_rss_bytes else None for o in outcomes]
    )
    parameters["peaks"] = _literal([o.peak_rss_bytes or None for o in outcomes])
    parameters["pids"] = _literal([o.pid for o in outcomes])
    return parameters


def _fence_parameters(fences: Sequence[Outcome | Fence]) -> dict[str, object]:
    return {
        "ids": _literal([fence.id for fence in fences]),
        "attempts": _literal([fence.attempt for fence in fences]),
        "claim_seqs": _literal([fence.claim_seq for fence in fences]),
    }


_RARE_COLUMNS: dict[str, Callable[[Outcome], object]] = {
    "states": lambda o: o.state.value,
    "results": lambda o: o.result,
    "errors": lambda o: o.error,
    "retry_at": lambda o: o.retry_at,
    "retry_in_s": lambda o: o.retry_in_s,
    "reasons": lambda o: None if o.cancel_reason is None else o.cancel_reason.value,
    "uncharged": lambda o: int(o.uncharged),
    "crashed": lambda o: int(o.crashed),
    "outputs": lambda o: o.output,
    "progress": lambda o: o.progress,
    "checkpoints": lambda o: o.checkpoint,
}


def _job_rows(rows: Rows, _: int) -> list[JobRow]:
    return [_job_row(row) for row in rows]


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
    given = cast("dict[str, Any]", value)
    return Progress(given.get("done", 0), given.get("total"), given.get("note", ""))


def _client_row(row: tuple[Any, ...]) -> ClientRow:
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
        slots=msgspec.convert(row[9], list[SlotStatus]),
        errors=msgspec.convert(row[10], list[RecentError]),
    )


def _owners(rows: Rows, _changed: int) -> list[UUID]:
    return [row[0] for row in rows]


def _backlog(rows: Rows, _changed: int) -> Backlog:
    return Backlog(
        available={queue: count for queue, state, count in rows if state == "available"},
        running={queue: count for queue, state, count in rows if state == "running"},
        scheduled=sum(count for _, state, count in rows if state == "scheduled"),
    )


def _duration(microseconds: int | None) -> dt.timedelta | None:
    return None if microseconds is None else dt.timedelta(microseconds=microseconds)


def _kind(row: tuple[Any, ...]) -> KindSummary:
    return KindSummary(
        kind=row[0],
        completed=row[1],
        cancelled=row[2],
        unfinished=row[3],
        errors=row[4] or 0,
        duration_p50=_duration(row[5]),
        duration_p95=_duration(row[6]),
        duration_max=_duration(row[7]),
        cpu_time=dt.timedelta(microseconds=int(row[8] or 0)),
        peak_rss_bytes=row[9],
    )
