"""What a large table and many supervisors cost.

    python bench/scale.py [--full] [--finished N] [--jobs N] [--rounds N] [--json FILE]

* Claims and acknowledgements of 500 jobs, on one connection each as the supervisor makes them, in a
  table that holds as many finished rows as given, and a tenth of that scheduled (of the highest
  priority) and as many pending; the floor is the same in a table with nothing else. It is measured
  right after the bulk load, when the server has no statistics, and again after an ANALYZE.
* ``synk jobs`` on that table, from the start of the process to its end; the floor is the empty one.
* No-op jobs drained by one, two, four and eight supervisors with one worker process each, which
  all wait when the jobs are inserted; from the first claim to the last acknowledgement by the
  database's clock. Each job must have run once.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
import uuid
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

import synk
from figures import FLOOR, SYNK, Results, interleaved, percentile
from jobs import Noop
from options import Size, parse, parser_of
from peers.contest import fresh_database
from server import embedded_server, fresh_schema, server_facts, serving, value
from showing import publish
from synk.claim import Outcome
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Generator

    from figures import Contestants

SIZES = {
    "finished": Size(1_000_000, 10_000_000, "finished rows; a tenth scheduled, a tenth pending"),
    "batches": Size(20, 100, "claims and acknowledgements for each measurement"),
    "jobs": Size(20_000, 200_000, "jobs that the supervisors drain"),
    "rounds": Size(3, 7, "measurements of each"),
}
BATCH = 500
SUPERVISORS = (1, 2, 4, 8)
PATIENCE_S = 300.0
CLAIM = f"claim of {BATCH}"
LIST = "synk jobs, ms"
ACK = f"acknowledgement of {BATCH}"

LOAD = """
    SET session_replication_role = replica;  -- the rows are as the triggers would leave them
    ALTER TABLE synk.job SET (autovacuum_enabled = false);
    INSERT INTO synk.job (name, kind, args, state, attempt, attempted_at, finalized_at, duration_us)
    SELECT 'noop', 'noop', '{{"n": 1}}', 'completed', 1, now(), now() - n * interval '1 s', 10
    FROM generate_series(1, {finished}) AS n;
    INSERT INTO synk.job (name, kind, args, state, priority, scheduled_at)
    SELECT 'noop', 'noop', '{{"n": 1}}', 'scheduled', 1, now() + interval '1 day'
    FROM generate_series(1, {finished} / 10) AS n;
    INSERT INTO synk.job (name, kind, args, state, priority, held)
    SELECT 'noop', 'noop', '{{"n": 1}}', 'pending', 1, true
    FROM generate_series(1, {finished} / 10) AS n;
"""


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        with fresh_database(dsn) as empty, fresh_database(dsn) as full:
            fresh_schema(empty)
            fresh_schema(full)
            began = time.monotonic()
            load(full, options.finished)
            load_s = time.monotonic() - began
            measure_table(empty, full, options.batches, options.rounds, results)
        interleaved({SYNK: lambda: drains(dsn, options.jobs)}, options.rounds, results)
    ratio = max(statistics.median(ratios) for ratios in claim_ratios(results))
    notes = [
        f"Loaded {options.finished * 12 // 10:,} rows in {load_s:.0f} s.",
        f"Claims with them / without them: {ratio:.2f}; to reach: 1.20",
    ]
    publish(options, "scale", "a large table, many supervisors", results, {}, notes)


def claim_ratios(results: Results) -> list[list[float]]:
    return [
        results.ratios(figure)
        for figure in results.figures.values()
        if figure.quantity.startswith(CLAIM) and figure.of == SYNK
    ]


# -- a large table --------------------------------------------------------------------------------


def load(dsn: str, finished: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(LOAD.format(finished=finished).encode())
        # What a commit of that size leaves to be written must not disturb what follows.
        connection.execute("CHECKPOINT")


def measure_table(empty: str, full: str, batches: int, rounds: int, results: Results) -> None:
    with Claimer(empty) as on_empty, Claimer(full) as on_full:

        def both(when: str) -> Contestants:
            return {
                SYNK: lambda: on_full.measured(batches, when),
                FLOOR: lambda: on_empty.measured(batches, when),
            }

        interleaved(both("no statistics"), rounds, results)
        for dsn in (empty, full):
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute("ANALYZE synk.job")
        interleaved(both("analyzed"), rounds, results)
    lists: Contestants = {SYNK: lambda: listed(full), FLOOR: lambda: listed(empty)}
    interleaved(lists, rounds, results)


def listed(dsn: str) -> dict[str, float]:
    """How many milliseconds the command takes that lists the newest jobs."""
    command = [sys.executable, "-m", "synk", "jobs", "--storage", dsn]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return {LIST: (time.perf_counter() - began) * 1000}


class Claimer:
    """Claims and acknowledges as a supervisor does."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._storage = synk.PostgresStorage(dsn)
        self._owner = uuid.uuid4()
        self._claim_seq = 0

    def __enter__(self) -> Claimer:  # noqa: PYI034 - it is not a class to inherit from
        status = ClientStatus(
            id=self._owner, host="bench", pid=0, version="", processes=0, queues=()
        )
        self._storage.register_client(status, timedelta(hours=1))
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.close()

    def measured(self, batches: int, when: str) -> dict[str, float]:
        """The medians of the milliseconds that each took."""
        with synk.Client(storage=synk.PostgresStorage(self._dsn)) as client:
            client.insert_many(("noop", Noop(n)) for n in range(batches * BATCH))
        claims: list[float] = []
        acks: list[float] = []
        for _ in range(batches):
            began = time.perf_counter()
            outcomes = self._claim()
            claimed = time.perf_counter()
            self._storage.update_job_state(self._owner, outcomes)
            claims.append((claimed - began) * 1000)
            acks.append((time.perf_counter() - claimed) * 1000)
        return {
            f"{CLAIM}, {when}, ms": percentile(claims, 0.5),
            f"{ACK}, {when}, ms": percentile(acks, 0.5),
        }

    def _claim(self) -> list[Outcome]:
        self._claim_seq += 1
        jobs = self._storage.get_job_available(
            "default", BATCH, kinds=["noop"], owner=self._owner, claim_seq=self._claim_seq
        )
        if len(jobs) != BATCH:
            raise SystemExit(f"a claim of {BATCH} jobs brought {len(jobs)}")
        return [Outcome(job.id, job.attempt, self._claim_seq, duration_us=10) for job in jobs]


# -- many supervisors -----------------------------------------------------------------------------


def drains(dsn: str, jobs: int) -> dict[str, float]:
    return {
        f"{count} supervisors: drain, jobs/s": drained_by(dsn, count, jobs) for count in SUPERVISORS
    }


def drained_by(dsn: str, supervisors: int, jobs: int) -> float:
    fresh_schema(dsn)
    with (
        synk.Client(storage=synk.PostgresStorage(dsn)) as client,
        psycopg.connect(dsn, autocommit=True) as connection,
        served_by(dsn, supervisors, connection),
    ):
        client.insert_many(("noop", Noop(n)) for n in range(jobs))
        wait_for(connection, "SELECT NOT EXISTS (SELECT FROM synk.job WHERE finalized_at IS NULL)")
        twice = value(connection, "SELECT count(*) FROM synk.job WHERE attempt <> 1")
        if twice:
            raise SystemExit(f"{twice} jobs ran more than once")
        return jobs / value(connection, TAKEN_S)


TAKEN_S = "SELECT extract(epoch FROM max(finalized_at) - min(attempted_at))::float8 FROM synk.job"


@contextmanager
def served_by(
    dsn: str, supervisors: int, connection: psycopg.Connection[tuple[object, ...]]
) -> Generator[None]:
    with ExitStack() as stack:
        for _ in range(supervisors):
            stack.enter_context(serving(dsn, processes=1))
        wait_for(connection, f"SELECT count(*) = {supervisors} FROM synk.client")
        yield


def wait_for(connection: psycopg.Connection[tuple[object, ...]], question: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not value(connection, question):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {PATIENCE_S:g} s: {question}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
