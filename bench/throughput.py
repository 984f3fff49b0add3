"""How many no-op jobs a second synk drains through worker processes, beside the database's floor.

    python bench/throughput.py [--full] [--jobs N] [--processes N] [--rounds N] [--json FILE]
                               [--long N] [--beside N]

Both are measured in the same run, in turn, on a fresh embedded PostgreSQL with its defaults (fsync
and synchronous_commit on): a drain through synk, from the first claim to the last acknowledgement
by the database's clock, and the floor, the same claim and acknowledgement statements on two
connections with no workers between them. The ratio is what to compare; the rates depend on the
machine and on what else it does.

With --full two more drains are measured in the same rounds: a long one, and one beside a
transaction that stays open, so that no vacuum removes what the claims have left.
"""

from __future__ import annotations

import itertools
import queue
import statistics
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import psutil
import psycopg

import synk
from figures import FLOOR, SYNK, Results
from options import Size, parse, parser_of
from server import embedded_server, fresh_schema, server_facts, value
from showing import publish
from synk.status import ClientStatus
from synk.storage.sessions import connect_options
from synk.storage.statements import Statements

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from synk.claim import ClaimCursor

Batch: TypeAlias = tuple[int, list[tuple[Any, ...]]]
"""The number of a claim, and its rows."""

BATCH = 1_000
"""Jobs in a claim and in an acknowledgement of the floor: the size that synk uses."""

SIZES = {
    "jobs": Size(100_000, 200_000, "jobs a drain"),
    "processes": Size(2, 2, "worker processes"),
    "rounds": Size(3, 7, "measurements of each"),
    "long": Size(0, 1_000_000, "jobs of a long drain"),
    "beside": Size(0, 300_000, "jobs of a drain beside an open transaction"),
}
DRAIN = "drain, jobs/s"
INSERT = "insert_many, rows/s"
MEMORY = "supervisor, MB (proportional)"
TARGETS = {DRAIN: 80_000.0, INSERT: 150_000.0}
TARGET_SHARES = {"long": 0.9, "beside": 0.85}
"""Of the rate of a drain of --jobs."""

LEFT = (
    # First what costs next to nothing, since it takes from what is measured: the last one is left
    # until nearly the end.
    "SELECT finalized_at IS NULL FROM synk.job ORDER BY id DESC LIMIT 1",
    "SELECT EXISTS (SELECT FROM synk.job WHERE state = 'available')",
    "SELECT EXISTS (SELECT FROM synk.job WHERE state = 'running')",
)
"""Each is true while there is something to do."""
LOOK_S = 0.25


@dataclass
class Noop(synk.JobArgs, kind="noop"):
    n: int = 0


@synk.worker
def noop(job: synk.Job[Noop]) -> None:
    """Nothing: what is measured is all that is around a job."""


@dataclass
class Drain:
    insert_per_s: float
    per_s: float
    supervisor_mb: float


@dataclass
class Round:
    floor_per_s: float
    drain: Drain
    others: dict[str, Drain]
    """The drains beyond the first, by their options."""


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    with embedded_server() as dsn:
        facts = server_facts(dsn)
        rounds = [one_round(dsn, options) for _ in range(options.rounds)]
    report(rounds, options, facts)


def one_round(dsn: str, options: argparse.Namespace) -> Round:
    floor = floor_rate(dsn, options.jobs)
    drain = synk_rates(dsn, options.jobs, options.processes)
    others: dict[str, Drain] = {}
    if options.long:
        others["long"] = synk_rates(dsn, options.long, options.processes)
    if options.beside:
        with psycopg.connect(dsn) as connection:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            others["beside"] = synk_rates(
                dsn, options.beside, options.processes, lambda: connection.execute("SELECT 1")
            )
    return Round(floor, drain, others)


def synk_rates(
    dsn: str,
    jobs: int,
    processes: int,
    before: Callable[[], object] = lambda: None,
    *,
    workers: Sequence[object] | None = None,
    args: Callable[[int], Any] = Noop,
) -> Drain:
    """Drains so many jobs; *before* is called when they are inserted, *args* makes each."""
    fresh_schema(dsn)
    client = synk.Client(
        storage=synk.PostgresStorage(dsn),
        queues={"default": synk.QueueConfig()},
        workers=workers or [noop],
        processes=processes,
    )
    began = time.perf_counter()
    client.insert_many(("noop", args(n)) for n in range(jobs))
    insert = jobs / (time.perf_counter() - began)
    before()
    memory: list[float] = []

    def stop_when_drained() -> None:
        process = psutil.Process()
        with psycopg.connect(dsn, autocommit=True) as connection:
            while any(value(connection, question) for question in LEFT):
                memory.append(process.memory_full_info().pss / 1e6)
                time.sleep(LOOK_S)
        client.shutdown()

    threading.Thread(target=stop_when_drained).start()
    client.start()
    with psycopg.connect(dsn, autocommit=True) as connection:
        check_all_completed(connection, jobs)
        seconds = value(
            connection,
            "SELECT extract(epoch FROM max(finalized_at) - min(attempted_at))::float8"
            " FROM synk.job",
        )
    client.close()
    return Drain(insert, jobs / seconds, max(memory, default=0.0))


def floor_rate(dsn: str, jobs: int) -> float:
    """The same statements, one connection claiming and one acknowledging, and nothing else."""
    fresh_schema(dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO synk.job (name, kind, args)"
            " SELECT 'noop', 'noop', jsonb_build_object('n', n) FROM generate_series(1, %s) AS n",
            (jobs,),
        )
    owner = uuid.uuid4()
    register(dsn, owner)
    claimed: queue.SimpleQueue[Batch] = queue.SimpleQueue()
    began = time.perf_counter()
    thread = threading.Thread(target=floor_claims, args=(dsn, owner, claimed))
    thread.start()
    with psycopg.connect(dsn, autocommit=True, **connect_options(dsn)) as connection:
        plain = Statements().ack_plain(owner, [])
        assert plain is not None  # noqa: S101 - nothing is plain enough
        while (batch := claimed.get())[1]:
            parameters = {**plain.parameters, **floor_ack(*batch)}
            with suppress(psycopg.errors.LockNotAvailable):  # of the file's end, on a busy machine
                connection.execute(plain.text, parameters)
                continue
            connection.execute(plain.text, parameters)
        seconds = time.perf_counter() - began
        check_all_completed(connection, jobs)
    thread.join()
    return jobs / seconds


def floor_claims(dsn: str, owner: uuid.UUID, claimed: queue.SimpleQueue[Batch]) -> None:
    """Claims all there is; the last batch is empty."""
    statements = Statements()
    after: dict[int, ClaimCursor] = {}
    with psycopg.connect(dsn, autocommit=True, **connect_options(dsn)) as connection:
        for claim_seq in itertools.count(1):
            statement = statements.claim(
                "default", BATCH, kinds=["noop"], owner=owner, claim_seq=claim_seq, after=after
            )
            cursor = connection.cursor(binary=True)
            rows = cursor.execute(statement.text, statement.parameters).fetchall()
            rows.sort()
            claimed.put((claim_seq, rows))
            if not rows:
                return
            job_id, _, _, priority, scheduled_at, *_ = rows[-1]
            after[priority] = (scheduled_at, job_id)


def register(dsn: str, owner: uuid.UUID) -> None:
    """Gives the floor's owner a lease: without one it may not claim."""
    storage = synk.PostgresStorage(dsn)
    storage.register_client(
        ClientStatus(id=owner, host="floor", pid=0, version="", processes=0, queues=()),
        timedelta(hours=1),
    )
    storage.close()


def check_all_completed(connection: psycopg.Connection[Any], jobs: int) -> None:
    completed = value(connection, "SELECT count(*) FROM synk.job WHERE state = 'completed'")
    if completed != jobs:
        raise SystemExit(f"{completed} of {jobs} jobs completed: the figure would be wrong")


def floor_ack(claim_seq: int, rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    count = len(rows)
    parameters["ids"] = "{" + ",".join(str(row[0]) for row in rows) + "}"
    parameters["attempts"] = "{" + ",".join(str(row[1]) for row in rows) + "}"
    for name, number in (("claim_seqs", claim_seq), ("durations_us", 5), ("cpu_us", 5)):
        parameters[name] = "{" + ",".join([str(number)] * count) + "}"
    return parameters


def report(rounds: list[Round], options: argparse.Namespace, facts: dict[str, object]) -> None:
    results = Results(facts={"server": facts, "floor_batch": BATCH})
    for one in rounds:
        results.add(SYNK, {DRAIN: one.drain.per_s, INSERT: one.drain.insert_per_s})
        results.add(SYNK, {MEMORY: one.drain.supervisor_mb})
        results.add(FLOOR, {DRAIN: one.floor_per_s})
        for name, other in one.others.items():
            results.add(SYNK, {f"{name_of(name, options)}, jobs/s": other.per_s})
            results.add(SYNK, {f"{name_of(name, options)}, supervisor, MB": other.supervisor_mb})
    title = f"{options.jobs:,} no-op jobs, {options.processes} worker processes"
    notes = [
        f"synk / floor: {median_share(rounds, lambda one: one.floor_per_s):.2f}; to reach: 0.85"
    ]
    notes += [
        f"{name_of(name, options)} / drain: "
        f"{1 / median_share(rounds, lambda one, name=name: one.others[name].per_s):.2f}; "
        f"to reach: {TARGET_SHARES[name]}"
        for name in rounds[0].others
    ]
    publish(options, "throughput", title, results, TARGETS, notes)


def name_of(other: str, options: argparse.Namespace) -> str:
    """Says which drain it is."""
    how = {"long": "", "beside": " beside an open transaction"}[other]
    return f"drain of {getattr(options, other):,}{how}"


def median_share(rounds: list[Round], of: Callable[[Round], float]) -> float:
    """The rate of the first drain, by that of another one in the same round."""
    return statistics.median(one.drain.per_s / of(one) for one in rounds)


if __name__ == "__main__":
    main()
