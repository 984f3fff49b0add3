"""What `chaos.py` looks at in the end: how each row came about, and what ran outside the database.

A trigger, which only this benchmark has, keeps every change of every row in a table of its own, in
the same transaction. What may be said of the changes and of the executions is in
`synk.testing.checking`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import psycopg

from chaos_jobs import PROCESSES, timeout_s
from synk.job import JobState
from synk.storage.statements import client_id_of
from synk.testing import checking
from synk.testing.checking import Broken, Execution, History, Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from chaos_faults import Stopped

SLACK_S: Final = 5.0
"""For the kill, and for a machine that is busy."""

_HISTORY: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.change (
    number bigserial PRIMARY KEY, id bigint NOT NULL, state text, attempt int, uncounted int,
    max_attempts int, owner uuid, claim_seq bigint, scheduled_at timestamptz,
    attempted_at timestamptz, finalized_at timestamptz, failed int[]
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
        finalized_at, failed
    )
    SELECT NEW.id, NEW.state, NEW.attempt, NEW.uncounted, NEW.max_attempts, NEW.owner,
        NEW.claim_seq, NEW.scheduled_at, NEW.attempted_at, NEW.finalized_at,
        array(SELECT (e.error ->> 'attempt')::int FROM unnest(NEW.errors) AS e (error));
    RETURN NEW;
END $$;
-- By its name the first of the table's triggers, so that it sees the changes in their order.
CREATE TRIGGER a_change AFTER INSERT OR UPDATE OR DELETE ON synk.job
    FOR EACH ROW EXECUTE FUNCTION chaos.keep();
"""
_CHANGES: Final = """
SELECT id, state, attempt, uncounted, max_attempts, owner, claim_seq, scheduled_at, attempted_at,
    finalized_at, failed
FROM chaos.change ORDER BY number
"""
_COLUMNS: Final = (
    "id", "state", "attempt", "uncounted", "max_attempts", "owner", "claim_seq", "scheduled_at",
    "attempted_at", "finalized_at", "failed",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What the producers were told. Times are of the monotonic clock."""

    inserted: set[int]
    unknown: int
    """Jobs whose insert got no answer, and was not repeated."""
    cancelled_at: dict[int, float]


@dataclass(frozen=True)
class Found:
    """What became of all jobs."""

    images: dict[int, Image]
    executions: Sequence[Execution]
    broken: Sequence[Broken]
    overlaps: int
    """Executions beside another one of a supervisor that stood still."""
    facts: Counter[str]


def keep_history(dsn: str) -> None:
    """Has every change of every job kept from now on."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_HISTORY)


def checked(
    dsn: str, folder: Path, told: Told, stopped: Sequence[Stopped], pids: dict[str, int]
) -> Found:
    """Looks at everything.

    Args:
        dsn: of the database.
        folder: where the logs are.
        told: what the producers know.
        stopped: when which processes stood still.
        pids: of the supervisors, by their ids.
    """
    history, images = _history(dsn)
    names = _names(dsn)
    executions = executions_in(folder / "executions")
    pauses = [(owner, each) for owner, pid in pids.items() for each in stopped if each.pid == pid]
    overlaps = checking.i14_overlaps(executions)
    forbidden = [each for each in overlaps if not _may_overlap(each, pauses)]

    def longest_s(execution: Execution) -> float:
        own = [pause for owner, pause in pauses if owner == execution.owner]
        bound_s = timeout_s(names[execution.job_id]) + SLACK_S
        return bound_s + sum(pause.ended - pause.began for pause in own)

    broken = [
        *history.broken,
        *_about_inserts(told, images),
        *checking.i2_unfinished(images.values()),
        *checking.i12_unexecuted(
            (each for each in images.values() if each.state is JobState.COMPLETED), executions
        ),
        *history.i13_invented(executions),
        *checking.i13_repeated(executions),
        *(Broken("I14 one at a time", each.first.job_id, str(each)) for each in forbidden),
        *checking.i15_too_long(executions, longest_s),
        *_about_places(executions),
        *checking.i22_begun_later(told.cancelled_at, executions),
    ]
    allowed = len(overlaps) - len(forbidden)
    return Found(images, executions, broken, allowed, _facts(folder / "facts"))


def _history(dsn: str) -> tuple[History, dict[int, Image]]:
    history = History()
    images: dict[int, Image] = {}
    with psycopg.connect(dsn) as connection:
        for row in connection.execute(_CHANGES):
            image = _image(dict(zip(_COLUMNS, row, strict=True)))
            history.take(images.get(row[0]), image)
            images.pop(row[0], None)
            if image is not None:
                images[row[0]] = image
    return history, images


def _names(dsn: str) -> dict[int, str]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute("SELECT id, name FROM synk.job").fetchall())


def _image(columns: dict[str, Any]) -> Image | None:
    if columns["state"] is None:
        return None
    owner = columns["owner"]
    return Image(
        **{
            **columns,
            "state": JobState(columns["state"]),
            "owner": None if owner is None else client_id_of(owner),
            "failed": tuple(columns["failed"]),
        }
    )


def _about_inserts(told: Told, images: dict[int, Image]) -> list[Broken]:
    broken = checking.i1_missing(told.inserted, images)
    more = set(images) - told.inserted
    if len(more) > told.unknown:
        problem = f"{len(more)} jobs are there that nobody inserted for sure, of {told.unknown}"
        broken.append(Broken("I1 nothing is doubled", max(more), problem))
    for job_id in told.cancelled_at:
        if images[job_id].state is not JobState.CANCELLED:
            broken.append(Broken("I22 cancelled means off", job_id, str(images[job_id].state)))
    return broken


def _may_overlap(overlap: checking.Overlap, pauses: Iterable[tuple[str, Stopped]]) -> bool:
    """Whether the first one's supervisor stood still: it could not stop its own work."""
    first, second = overlap.first, overlap.second
    return any(
        owner == first.owner and pause.began < second.began and pause.ended > first.began
        for owner, pause in pauses
    )


def _about_places(executions: Iterable[Execution]) -> list[Broken]:
    return [
        Broken("I21 no more than there are processes", 0, f"{owner} ran {most} jobs at one time")
        for owner, most in checking.i21_most_at_once(executions).items()
        if most > PROCESSES
    ]


# -- the files ------------------------------------------------------------------------------------


def executions_in(file: Path) -> list[Execution]:
    """Reads what the handlers noted."""
    found: list[Execution] = []
    places: dict[tuple[str, ...], int] = {}
    """Where the latest execution of each process under a claim is."""
    for line in file.read_text().splitlines():
        what, *key, time = line.split()
        if what == "began":
            places[tuple(key)] = len(found)
            found.append(_begun(key, float(time)))
        else:
            place = places[tuple(key)]
            is_whole = what == "ended"
            found[place] = replace(found[place], seen=float(time), is_whole=is_whole)
    return found


def _begun(key: Sequence[str], began: float) -> Execution:
    job_id, attempt, claim_seq, owner, _ = key
    return Execution(
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
