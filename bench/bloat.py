"""How fast jobs are claimed beside a transaction that stays open, against a database without one.

    python bench/bloat.py [--seconds N] [--rate N] [--full] [--json FILE]

As long as one transaction has its snapshot, no vacuum removes what others have finished with: each
claim may have to step over all rows that were ever claimed. Jobs are inserted at a steady rate,
claimed and acknowledged through the storage, without workers, and with a supervisor's cursors of
how far it has read; each part of the run tells how many jobs were claimed in a second of claiming.
The two databases, each a fresh embedded PostgreSQL with its defaults, take turns ten times a
second. What to compare is how much the last part is slowed by the open transaction.
"""

from __future__ import annotations

import argparse
import statistics
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

import synk
from server import embedded_server, fresh_schema, value
from showing import show, write_json
from synk.claim import Outcome
from synk.core.claim_cursors import ClaimCursors
from synk.insertion import JobOptions, NewJob
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.claim import ClaimedJob

TICK_S = 0.1
"""How often jobs are inserted, claimed and acknowledged."""

LIMIT = 500
"""Jobs in a claim, at the most, and in an acknowledgement: the size that synk uses."""

PARTS = 10
TARGET = 2.0
"""How many times slower the claims of the last part may be."""

OWNER = uuid.UUID(int=1)
ALL_DEAD = "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'synk.job'::regclass"


@dataclass
class Part:
    """One tenth of a run."""

    jobs: int = 0
    claims_ms: list[float] = field(default_factory=list[float])
    acks_ms: list[float] = field(default_factory=list[float])
    dead_rows: int = 0

    @property
    def jobs_per_s(self) -> float:
        """Jobs in a second of claiming."""
        return self.jobs / (sum(self.claims_ms) / 1000)

    def figures(self) -> dict[str, float]:
        return {
            "jobs_per_s_of_claiming": self.jobs_per_s,
            "claim_ms_p50": statistics.median(self.claims_ms),
            "claim_ms_max": max(self.claims_ms),
            "ack_ms_p50": statistics.median(self.acks_ms),
            "dead_rows": self.dead_rows,
        }


class Load:
    """Inserts, claims and acknowledges at a steady rate, on one database."""

    def __init__(self, dsn: str, rate: int) -> None:
        self._storage = synk.PostgresStorage(dsn)
        job = NewJob(name="noop", kind="noop", args="{}", options=JobOptions())
        self._jobs = [job] * round(rate * TICK_S)
        self._claims = 0
        self._cursors = ClaimCursors()
        self._storage.register_client(
            ClientStatus(
                id=OWNER, host="bench", pid=1, version="0", processes=1, queues=("default",)
            ),
            timedelta(days=1),
        )

    def tick(self, part: Part) -> None:
        """Inserts what is due in a tick, and claims and acknowledges all there is."""
        self._storage.insert(self._jobs)
        while len(claimed := self._claim(part)) == LIMIT:
            self._acknowledge(claimed, part)
        self._acknowledge(claimed, part)

    def close(self) -> None:
        self._storage.close()

    def _claim(self, part: Part) -> list[ClaimedJob]:
        self._claims += 1
        began = time.monotonic()
        claimed = self._storage.get_job_available(
            "default",
            LIMIT,
            kinds=["noop"],
            owner=OWNER,
            claim_seq=self._claims,
            after=self._cursors.at(began),
        )
        now = time.monotonic()
        self._cursors.claimed(claimed, limit=LIMIT, began=began, now=now)
        part.claims_ms.append((now - began) * 1000)
        part.jobs += len(claimed)
        return claimed

    def _acknowledge(self, claimed: Sequence[ClaimedJob], part: Part) -> None:
        outcomes = [Outcome(job.id, job.attempt, job.claim_seq) for job in claimed]
        if not outcomes:
            return
        began = time.perf_counter()
        self._storage.update_job_state(OWNER, outcomes)
        part.acks_ms.append((time.perf_counter() - began) * 1000)


def main() -> None:
    options = parsed()
    with ExitStack() as stack:
        free, beside = (Server(stack, options.rate) for _ in range(2))
        for server in (free, beside):
            server.load.tick(Part())
        hold_snapshot(stack.enter_context(psycopg.connect(beside.dsn)))
        for _ in range(PARTS):
            run_part([free, beside], options.seconds / PARTS)
    report(free.parts, beside.parts, options)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load (60)")
    parser.add_argument("--rate", type=int, default=2000, help="jobs inserted a second (2000)")
    parser.add_argument("--full", action="store_true", help="ten minutes")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    if options.full:
        options.seconds = 600.0
    return options


def hold_snapshot(connection: psycopg.Connection[Any]) -> None:
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    connection.execute("SELECT 1")


class Server:
    """A fresh server, what is done on it, and what that took."""

    def __init__(self, stack: ExitStack, rate: int) -> None:
        self.dsn = stack.enter_context(embedded_server())
        fresh_schema(self.dsn)
        self._watching = stack.enter_context(psycopg.connect(self.dsn, autocommit=True))
        self.load = Load(self.dsn, rate)
        stack.callback(self.load.close)
        self.parts: list[Part] = []

    def end_part(self) -> None:
        self.parts[-1].dead_rows = value(self._watching, ALL_DEAD) or 0


def run_part(servers: Sequence[Server], seconds: float) -> None:
    """The servers in turn; what could not be done in time is done later."""
    for server in servers:
        server.parts.append(Part())
    began = time.monotonic()
    for tick in range(round(seconds / TICK_S)):
        time.sleep(max(0.0, began + tick * TICK_S - time.monotonic()))
        for server in servers:
            server.load.tick(server.parts[-1])
    for server in servers:
        server.end_part()


def report(free: list[Part], beside: list[Part], options: argparse.Namespace) -> None:
    headings = ("part", "jobs/s alone", "beside it", "slowed by", "claim ms", "beside it", "dead")
    rows = [
        [
            str(number),
            f"{one.jobs_per_s:,.0f}",
            f"{other.jobs_per_s:,.0f}",
            f"{one.jobs_per_s / other.jobs_per_s:.2f}",
            f"{statistics.median(one.claims_ms):.1f}",
            f"{statistics.median(other.claims_ms):.1f}",
            f"{other.dead_rows:,}",
        ]
        for number, (one, other) in enumerate(zip(free, beside, strict=True), 1)
    ]
    slowed = free[-1].jobs_per_s / beside[-1].jobs_per_s
    notes = [
        f"{options.rate} jobs a second for {options.seconds:g} s, each of {PARTS} parts a line.",
        "jobs/s: in a second of claiming. dead: versions of rows that no vacuum may remove.",
        f"To reach: slowed by no more than {TARGET:g} times in the last part; it is {slowed:.2f}.",
    ]
    show("claims beside an open transaction", headings, rows, notes)
    settings = {"seconds": options.seconds, "rate": options.rate, "limit": LIMIT}
    figures = {
        "slowed_by": slowed,
        "alone": [part.figures() for part in free],
        "beside": [part.figures() for part in beside],
    }
    write_json(options.json, settings, figures)


if __name__ == "__main__":
    main()
