"""The parameters of statements: what they are told, as psycopg sends it fastest."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk.errors import InvalidJob
from synk.plain import json_text
from synk.row import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from synk.claim import Fence, Outcome
    from synk.insertion import JobOptions, NewJob

_encode: Final = msgspec.json.Encoder().encode


def insert_parameters(job: NewJob) -> dict[str, object]:
    """Returns what insert.sql is told of *job*."""
    return {
        **_option_columns(job.options),
        "kind": job.kind,
        "args": job.args,
        "name": job.name,
        "idempotency_key": job.options.idempotency_key,
    }


def _option_columns(options: JobOptions) -> dict[str, object]:
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


def insert_once_parameters(jobs: Sequence[NewJob]) -> dict[str, object]:
    """Returns what insert_many_once.sql is told: as insert_many, and the keys."""
    parameters = insert_many_parameters(jobs)
    parameters["each_idempotency_key"] = [job.options.idempotency_key for job in jobs]
    return parameters


def insert_full_parameters(jobs: Sequence[NewJob]) -> dict[str, object]:
    """Returns what insert_full.sql is told: as insert_many_once, and the columns of few jobs."""
    parameters = insert_once_parameters(jobs)
    parameters |= extra_parameters(jobs)
    return parameters


def extra_parameters(jobs: Sequence[NewJob]) -> dict[str, object]:
    """Returns the columns that are NULL in plain rows; each is empty if all *jobs* are so."""
    options = [job.options for job in jobs]
    given = [each.start_before for each in options]
    limits = [job.limit for job in jobs]
    columns: dict[str, list[Any]] = {
        "tags": [text_array(each.tags) if each.tags else None for each in options],
        "meta": [None if each.meta is None else json_text(each.meta) for each in options],
        "start_before": [each if isinstance(each, dt.datetime) else None for each in given],
        "start_within": [each if isinstance(each, dt.timedelta) else None for each in given],
        "keep": [each.keep for each in options],
        "limit": [limit and limit.name for limit in limits],
        "limit_path": [limit and text_array(limit.path) for limit in limits],
    }
    return {
        f"each_{name}": [] if values.count(None) == len(values) else values
        for name, values in columns.items()
    }


def text_array(values: Iterable[str]) -> str:
    """Returns PostgreSQL's text for an array of text."""
    quoted = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return "{" + ",".join([f'"{each}"' for each in quoted]) + "}"


def insert_many_parameters(jobs: Sequence[NewJob]) -> dict[str, object]:
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


def once_a_key(jobs: Sequence[NewJob]) -> tuple[list[NewJob], list[int]]:
    """Returns the first job of each key and all without one, and the place of each job among them.

    One statement cannot insert a row and find it taken.

    Raises:
        InvalidJob: two of one key are different jobs.
    """
    sent: list[NewJob] = []
    place_of: dict[str, int] = {}
    places: list[int] = []
    for job in jobs:
        key = job.options.idempotency_key
        place = len(sent) if key is None else place_of.setdefault(key, len(sent))
        if place == len(sent):
            sent.append(job)
        elif (job.kind, job.args) != (sent[place].kind, sent[place].args):
            raise InvalidJob("idempotency_key", key, "is that of two different jobs of one insert")
        places.append(place)
    return sent, places


def _literal(values: Sequence[int | None]) -> str:
    """Returns PostgreSQL's text for an array of numbers, made without a look at each of them."""
    return "{" + _encode(values)[1:-1].decode() + "}"


def are_plain(outcomes: Sequence[Outcome]) -> bool:
    """Whether all are successes that left nothing but their measures."""
    completed = JobState.COMPLETED
    return all(
        o.state is completed and o.result is None and o.output is None and o.progress is None
        for o in outcomes
    )


def ack_parameters(owner: UUID, outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Returns what each acknowledgement is told: the claims, and what their jobs took."""
    parameters = fence_parameters(outcomes)
    parameters["owner"] = owner
    parameters["durations_us"] = _literal([o.duration_us for o in outcomes])
    parameters["cpu_us"] = _literal([o.cpu_us for o in outcomes])
    # Too short to ask for: left out, and where all are, so is the column.
    peaks = [o.peak_rss_bytes or None for o in outcomes]
    system_us = [o.system_us if o.peak_rss_bytes else None for o in outcomes] if any(peaks) else []
    parameters["system_us"] = _literal(system_us)
    parameters["peaks"] = _literal(peaks if system_us else [])
    parameters["pids"] = _literal([o.pid for o in outcomes])
    return parameters


def fence_parameters(fences: Sequence[Outcome | Fence]) -> dict[str, object]:
    """Returns the claims, a column each."""
    return {
        "ids": _literal([fence.id for fence in fences]),
        "attempts": _literal([fence.attempt for fence in fences]),
        "claim_seqs": _literal([fence.claim_seq for fence in fences]),
    }


RARE_COLUMNS: dict[str, Callable[[Outcome], object]] = {
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
    "snoozes": lambda o: o.snoozes,
}
"""What ack.sql is told beyond that, which most outcomes have nothing to say to."""


def rare_parameters(
    outcomes: Sequence[Outcome], names: Iterable[str] = RARE_COLUMNS
) -> dict[str, object]:
    """Returns those columns, or the named ones of them."""
    return {name: [RARE_COLUMNS[name](outcome) for outcome in outcomes] for name in names}
