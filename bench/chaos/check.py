"""What the chaos looks at in the end: how each row came about, and what ran outside the database.

A trigger, which only this benchmark has, keeps every change of every row in a table of its own, in
the same transaction. What may be said of the changes and of the executions is in
`tests/support/checking.py`.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from chaos import bounds
from chaos.jobs import PROCESSES, timeout_s
from server import value
from synk.row import JobState
from synk.storage.statements import client_id_of
from synk.tick_key import tick_of
from tested import checking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from chaos.faults import Stopped

CAUSES: Final = ("its supervisor stood still", "a fail-over", "without a cause")
"""Of overlapping executions."""
NO_CAUSE: Final = CAUSES[-1]

SLACK_S: Final = 5.0
"""For the kill, and for a machine that is busy."""

_HISTORY: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.change (
    number bigserial PRIMARY KEY, id bigint NOT NULL, state text, attempt int, uncounted int,
    max_attempts int, owner uuid, claim_seq bigint, scheduled_at timestamptz,
    attempted_at timestamptz, finalized_at timestamptz, failed int[],
    snoozes int, lost int, at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE FUNCTION chaos.keep() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO chaos.change (id) VALUES (OLD.id);
        RETURN OLD;
    END IF;
    INSERT INTO chaos.change (
        id, state, attempt, uncounted, max_attempts, owner, claim_seq, scheduled_at, attempted_at,
        finalized_at, lost, snoozes, failed
    )
    SELECT NEW.id, NEW.state, NEW.attempt, NEW.uncounted, NEW.max_attempts, NEW.owner,
        NEW.claim_seq, NEW.scheduled_at, NEW.attempted_at, NEW.finalized_at, NEW.lost,
        coalesce((NEW.meta ->> 'snoozes')::int, 0),
        array(SELECT (e.error ->> 'attempt')::int FROM unnest(NEW.errors) AS e (error));
    RETURN NEW;
END $$;
-- By its name the first of the table's triggers, so that it sees the changes in their order.
CREATE TRIGGER a_change AFTER INSERT OR UPDATE OR DELETE ON synk.job
    FOR EACH ROW EXECUTE FUNCTION chaos.keep();
"""
_CHANGES: Final = """
SELECT id, state, attempt, uncounted, max_attempts, owner, claim_seq, scheduled_at, attempted_at,
    finalized_at, failed, snoozes, extract(epoch FROM at)::float8, lost
FROM chaos.change ORDER BY number
"""
_COLUMNS: Final = (
    "id", "state", "attempt", "uncounted", "max_attempts", "owner", "claim_seq", "scheduled_at",
    "attempted_at", "finalized_at", "failed", "snoozes",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What the producers were told. Times are of the monotonic clock."""

    inserted: set[int]
    unknown: int
    """Jobs whose insert got no answer, and was not repeated."""
    cancelled_at: dict[int, float]
    paused: Sequence[bounds.Pause]


@dataclass(frozen=True)
class Standstills:
    """When something could keep a supervisor from stopping its own work in time."""

    stopped: Sequence[Stopped]
    """Which processes stood still."""
    fail_overs: Sequence[tuple[float, float]]
    """From when to when another server took the place of the one before."""


@dataclass(frozen=True)
class Changed:
    """What became of a row, and when by the monotonic clock."""

    before: checking.Image | None
    after: checking.Image | None
    at: float
    is_rescue: bool
    """Whether another supervisor took the job from a lost one."""

    @property
    def completes(self) -> bool:
        was = None if self.before is None else self.before.state
        return was is JobState.RUNNING and self.after_is(JobState.COMPLETED)

    def after_is(self, state: JobState) -> bool:
        return self.after is not None and self.after.state is state


@dataclass(frozen=True)
class Found:
    """What became of all jobs."""

    images: dict[int, checking.Image]
    executions: Sequence[checking.Execution]
    broken: Sequence[checking.Broken]
    overlaps: Counter[str]
    """How often two executions of one job ran at one time, by the cause."""
    facts: Counter[str]
    changes: Sequence[Changed]
    queues: Counter[str]
    """How many jobs each queue had."""

    def broken_of(self, *rules: str) -> int:
        return sum(each.rule in rules for each in self.broken)


def keep_history(dsn: str) -> None:
    """Has every change of every job kept from now on."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_HISTORY)


def checked(dsn: str, folder: Path, told: Told, pauses: Standstills, pids: dict[str, int]) -> Found:
    """Looks at everything.

    Args:
        dsn: of the database.
        folder: where the logs are.
        told: what the producers know.
        pauses: when which processes stood still, and the server was replaced.
        pids: of the supervisors, by their ids.
    """
    history, images, changes = _history(dsn)
    jobs = _jobs(dsn)
    executions = executions_in(folder / "executions")
    stopped = [
        (owner, each) for owner, pid in pids.items() for each in pauses.stopped if each.pid == pid
    ]
    overlaps = [
        (_cause(each, stopped, pauses.fail_overs), each)
        for each in checking.i14_overlaps(executions)
    ]

    def is_excused(first: checking.Execution, second: checking.Execution) -> bool:
        overlap = checking.Overlap(first, second)
        return _cause(overlap, stopped, pauses.fail_overs) != NO_CAUSE

    def longest_s(execution: checking.Execution) -> float:
        own = [pause for owner, pause in stopped if owner == execution.owner]
        bound_s = timeout_s(jobs[execution.job_id].name) + SLACK_S
        return bound_s + sum(pause.ended - pause.began for pause in own)

    broken = [
        *history.broken,
        *_about_inserts(
            told, images, {job.id for job in jobs.values() if job.name == bounds.TICKS}
        ),
        *checking.i2_unfinished(images.values()),
        *checking.i12_unexecuted(
            (each for each in images.values() if each.state is JobState.COMPLETED), executions
        ),
        *history.i13_invented(executions),
        *checking.i13_repeated(executions),
        *(
            checking.Broken("I14 one at a time", each.first.job_id, str(each))
            for cause, each in overlaps
            if cause == NO_CAUSE
        ),
        *checking.i15_too_long(executions, longest_s),
        *_about_places(executions),
        *checking.i22_begun_later(told.cancelled_at, executions),
        *_about_bounds(jobs, executions, changes, told, is_excused),
        *_about_ticks(dsn, jobs),
    ]
    causes = Counter(cause for cause, _ in overlaps)
    queues = Counter(job.queue for job in jobs.values())
    return Found(images, executions, broken, causes, _facts(folder / "facts"), changes, queues)


def _history(dsn: str) -> tuple[checking.History, dict[int, checking.Image], list[Changed]]:
    history = checking.History()
    images: dict[int, checking.Image] = {}
    changes: list[Changed] = []
    losses: Counter[int] = Counter()
    with psycopg.connect(dsn) as connection:
        epoch = value(connection, "SELECT extract(epoch FROM clock_timestamp())::float8")
        clock = epoch - time.monotonic()
        for *columns, at, lost in connection.execute(_CHANGES):
            image = _image(dict(zip(_COLUMNS, columns, strict=True)))
            job_id = columns[0]
            before = images.pop(job_id, None)
            history.take(before, image)
            is_rescue = (lost or 0) > losses[job_id]
            changes.append(Changed(before, image, at - clock, is_rescue))
            if image is not None:
                images[job_id], losses[job_id] = image, lost
    return history, images, changes


@dataclass(frozen=True)
class Job:
    """What a job was inserted with."""

    id: int
    name: str
    queue: str
    tenant: int
    key: str
    """Of idempotency; empty: none."""

    def group(self, queue: str) -> str | None:
        """Returns what it shares with others of *queue*; None: it is of another one."""
        return f"tenant {self.tenant}" if self.queue == queue else None


def _jobs(dsn: str) -> dict[int, Job]:
    query = """
        SELECT id, name, queue, coalesce((args ->> 'tenant')::int, 0), coalesce(idempotency_key, '')
        FROM synk.job
    """
    with psycopg.connect(dsn) as connection:
        return {row[0]: Job(*row) for row in connection.execute(query)}


def _about_bounds(
    jobs: dict[int, Job],
    executions: Sequence[checking.Execution],
    changes: Sequence[Changed],
    told: Told,
    is_excused: Callable[[checking.Execution, checking.Execution], bool],
) -> list[checking.Broken]:
    return [
        *bounds.i26_above_the_limit(
            executions, lambda job_id: jobs[job_id].group(bounds.LIMITED), is_excused
        ),
        *bounds.i27_two_in_one_scope(changes, lambda job_id: jobs[job_id].group(bounds.SINGLE)),
        *bounds.i28_begun_in_a_pause(
            executions, told.paused, lambda job_id: jobs[job_id].queue == bounds.PAUSED
        ),
    ]


def _image(columns: dict[str, Any]) -> checking.Image | None:
    if columns["state"] is None:
        return None
    owner = columns["owner"]
    return checking.Image(
        **{
            **columns,
            "state": JobState(columns["state"]),
            "owner": None if owner is None else client_id_of(owner),
            "failed": tuple(columns["failed"]),
        }
    )


def _about_inserts(
    told: Told, images: dict[int, checking.Image], ticking: set[int]
) -> list[checking.Broken]:
    broken = checking.i1_missing(told.inserted, images)
    more = set(images) - told.inserted - ticking
    if len(more) > told.unknown:
        problem = f"{len(more)} jobs are there that nobody inserted for sure, of {told.unknown}"
        broken.append(checking.Broken("I1 nothing is doubled", max(more), problem))
    for job_id in told.cancelled_at:
        if images[job_id].state is not JobState.CANCELLED:
            broken.append(
                checking.Broken("I22 cancelled means off", job_id, str(images[job_id].state))
            )
    return broken


def _about_ticks(dsn: str, jobs: dict[int, Job]) -> list[checking.Broken]:
    ticks = {job.id: tick_of(job.key) for job in jobs.values() if job.name == bounds.TICKS}
    query = """
        SELECT extract(epoch FROM p.next_at - p.since)::float8 / %s - 1, p.runs, p.skipped
        FROM synk.periodic AS p WHERE p.name = %s
    """
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query, [bounds.EVERY_S, bounds.TICKS]).fetchone()
    if row is None:
        return [checking.Broken("I29 a tick is one job or skipped", 0, "the schedule is gone")]
    return bounds.i29_ticks(
        {job_id: tick.timestamp() for job_id, tick in ticks.items() if tick is not None},
        bounds.Schedule(*row),
    )


def _cause(
    overlap: checking.Overlap,
    stopped: Iterable[tuple[str, Stopped]],
    fail_overs: Iterable[tuple[float, float]],
) -> str:
    """Why the first one's supervisor may not have stopped its own work before the second began."""
    first, second = overlap.first, overlap.second
    times = [(pause.began, pause.ended) for owner, pause in stopped if owner == first.owner]
    if any(began < second.began and ended > first.began for began, ended in times):
        return CAUSES[0]
    if any(first.began < ended and second.began > began for began, ended in fail_overs):
        return CAUSES[1]
    return NO_CAUSE


def _about_places(executions: Iterable[checking.Execution]) -> list[checking.Broken]:
    return [
        checking.Broken(
            "I21 no more than there are processes", 0, f"{owner} ran {most} jobs at one time"
        )
        for owner, most in checking.i21_most_at_once(executions).items()
        if most > PROCESSES
    ]


# -- the files ------------------------------------------------------------------------------------


def executions_in(file: Path) -> list[checking.Execution]:
    """Reads what the handlers noted."""
    found: list[checking.Execution] = []
    places: dict[tuple[str, ...], int] = {}
    """Where the latest execution of each process under a claim is."""
    for line in file.read_text().splitlines():
        what, *key, seen = line.split()
        if what == "began":
            places[tuple(key)] = len(found)
            found.append(_begun(key, float(seen)))
        else:
            place = places[tuple(key)]
            is_whole = what == "ended"
            found[place] = replace(found[place], seen=float(seen), is_whole=is_whole)
    return found


def _begun(key: Sequence[str], began: float) -> checking.Execution:
    job_id, attempt, claim_seq, owner, _ = key
    return checking.Execution(
        job_id=int(job_id),
        attempt=int(attempt),
        claim_seq=int(claim_seq),
        owner=owner,
        began=began,
        seen=began,
        is_whole=False,
    )


def _facts(file: Path) -> Counter[str]:
    counts: Counter[str] = Counter()
    if file.exists():
        for line in file.read_text().splitlines():
            counts.update(json.loads(line))
    return counts
