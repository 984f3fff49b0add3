"""What jobs that wait for each other cost: many behind one, one behind many, one behind the other.

    python bench/ties.py [--sizes N,N,...] [--full] [--json FILE]

Through the storage, without workers, on a fresh embedded PostgreSQL with its defaults: jobs are
claimed and acknowledged 500 at a time, as a supervisor does, and what waits for them follows. For
each size

* fan-in: one job that depends on all of them, beside as many jobs of which none waits (the floor);
* fan-out: as many that depend on one, which completes, and as many on one that is cancelled;
* a chain, each of which depends on the one before, whose first is cancelled.

What to compare is the time and the log (WAL) that one job takes, over the sizes, and how long the
longest statement took: so long its rows are kept from others.
"""

from __future__ import annotations

import argparse
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

import synk
from server import embedded_server, fresh_schema, value
from showing import show, write_json
from synk import JobState
from synk.claim import Outcome
from synk.insertion import JobOptions, NewJob
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES: Final = (2_000, 20_000)
FULL_SIZES: Final = (2_000, 20_000, 100_000)
LIMIT: Final = 500
OWNER: Final = uuid.UUID(int=1)
INSERTED: Final = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"


@dataclass
class Taken:
    """What one part of a run took."""

    what: str
    size: int
    seconds: float = 0.0
    longest_s: float = 0.0
    wal_bytes: int = 0

    @property
    def us_each(self) -> float:
        return self.seconds / self.size * 1e6

    def row(self) -> list[str]:
        return [
            self.what,
            f"{self.size:,}",
            f"{self.seconds:.2f}",
            f"{self.us_each:,.0f}",
            f"{self.wal_bytes / self.size:,.0f}",
            f"{self.longest_s * 1000:,.0f}",
        ]


class Bench:
    """One server, and what was measured on it."""

    def __init__(self, dsn: str) -> None:
        self._storage = synk.PostgresStorage(dsn)
        self._watching = psycopg.connect(dsn, autocommit=True)
        self._claims = 0
        self._part = Taken("", 1)
        self.parts: list[Taken] = []
        status = ClientStatus(
            id=OWNER, host="bench", pid=1, version="0", processes=1, queues=("default",)
        )
        self._storage.register_client(status, timedelta(days=1))

    def close(self) -> None:
        self._watching.close()
        self._storage.close()

    def fan_in(self, size: int) -> None:
        self._begin("of which none waits: inserted", size)
        self._insert(size)
        self._begin("of which none waits: claimed, acknowledged", size)
        self._drain(size)
        parents = self._insert(size)
        self._begin("fan-in: one inserted behind all", size)
        last = self._insert(1, depends_on=tuple(parents))
        self._begin("fan-in: claimed, acknowledged", size)
        self._drain(size)
        self._check(last, JobState.AVAILABLE)
        self._drain(1)

    def fan_out(self, size: int, end: JobState) -> None:
        parents = self._insert(1)
        self._begin(f"fan-out: inserted behind one, {end}", size)
        behind = self._insert(size, depends_on=tuple(parents))
        self._begin(f"fan-out: the one is {end}", size)
        if end is JobState.COMPLETED:
            self._drain(1)
        else:
            self._timed(lambda: self._storage.cancel(parents[0]))
        self._settle()
        followed = JobState.AVAILABLE if end is JobState.COMPLETED else JobState.CANCELLED
        self._check(behind, followed)
        self._forget()

    def chain(self, size: int) -> None:
        (first,) = self._insert(1)
        self._watching.execute(
            "INSERT INTO synk.job (id, kind, name, depends_on) SELECT n, 'noop', 'x', ARRAY[n - 1]"
            " FROM generate_series(%s::bigint, %s::bigint) AS n",
            (first + 1, first + size),
        )
        self._begin("a chain whose first is cancelled", size)
        self._timed(lambda: self._storage.cancel(first))
        self._settle()
        self._check([first + size], JobState.CANCELLED)
        self._forget()

    # -- steps ------------------------------------------------------------------------------------

    def _begin(self, what: str, size: int) -> None:
        self._part = Taken(what, size)
        self.parts.append(self._part)

    def _timed(self, call: Callable[[], object]) -> None:
        written, began = value(self._watching, INSERTED), time.perf_counter()
        call()
        took = time.perf_counter() - began
        self._part.seconds += took
        self._part.longest_s = max(self._part.longest_s, took)
        self._part.wal_bytes += int(value(self._watching, INSERTED) - written)

    def _insert(self, count: int, depends_on: tuple[int, ...] = ()) -> list[int]:
        options = JobOptions(depends_on=depends_on)
        job = NewJob(name="x", kind="noop", args="{}", options=options)
        ids: list[int] = []
        for begin in range(0, count, 10_000):
            jobs = [job] * min(10_000, count - begin)
            self._timed(lambda jobs=jobs: ids.extend(self._storage.insert(jobs)))
        return ids

    def _drain(self, count: int) -> None:
        while count:
            self._claims += 1
            claimed = self._storage.get_job_available(
                "default",
                min(LIMIT, count),
                kinds=["noop"],
                owner=OWNER,
                claim_seq=self._claims,
            )
            outcomes = [Outcome(job.id, job.attempt, job.claim_seq) for job in claimed]
            self._timed(lambda outcomes=outcomes: self._storage.update_job_state(OWNER, outcomes))
            count -= len(claimed)

    def _settle(self) -> None:
        while value(self._watching, "SELECT count(*) FROM synk.unsettled"):
            self._timed(lambda: self._storage.settle(2_000))

    def _check(self, ids: list[int], state: JobState) -> None:
        found = self._watching.execute(
            "SELECT DISTINCT state::text FROM synk.job WHERE id = ANY (%s)", (ids,)
        ).fetchall()
        if found != [(state.value,)]:
            raise SystemExit(f"{found} instead of {state}")

    def _forget(self) -> None:
        self._watching.execute("TRUNCATE synk.job")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sizes", help="how many jobs, with commas between (2000,20000)")
    parser.add_argument("--full", action="store_true", help="100,000 as well")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    sizes = FULL_SIZES if options.full else SIZES
    if options.sizes:
        sizes = tuple(map(int, options.sizes.split(",")))
    with embedded_server() as dsn:
        fresh_schema(dsn)
        bench = Bench(dsn)
        for size in sizes:
            bench.fan_in(size)
            for end in (JobState.COMPLETED, JobState.CANCELLED):
                bench.fan_out(size, end)
            bench.chain(size)
        bench.close()
    headings = ("", "jobs", "s", "us each", "WAL bytes each", "longest ms")
    show("jobs that wait for each other", headings, [part.row() for part in bench.parts])
    figures = {"parts": [asdict(part) for part in bench.parts]}
    write_json(options.json, {"sizes": list(sizes), "limit": LIMIT}, figures)


if __name__ == "__main__":
    main()
