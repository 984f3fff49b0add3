"""A worker that writes to the database of its jobs, and completes them with what it wrote."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone

import psycopg

import synk


@dataclass
class Pay(synk.JobArgs, kind="pay"):
    """Notes a payment, and does then what it is told."""

    dsn: str
    then: str = ""


class Payer(synk.Worker[Pay]):
    def complete_with(self, job: synk.Job[Pay], connection: psycopg.Connection) -> None:
        results = {"a lock": threading.Lock(), "too much": "x" * 70_000}
        try:
            job.complete_tx(connection, results.get(job.args.then.removeprefix("complete with ")))
        except synk.InvalidValue:
            # The job's row is untouched, and so is the transaction.
            state = connection.execute("SELECT state FROM synk.job WHERE id = %s", (job.id,))
            assert state.fetchone() == ("running",)
            if job.args.then != "complete with a lock":
                job.complete_tx(connection, "too much")
                return
            raise

    def next_retry(self, job: synk.Job[Pay], error: BaseException) -> datetime | None:
        return datetime.now(timezone.utc)

    def work(self, job: synk.Job[Pay]) -> None:
        with psycopg.connect(job.args.dsn) as connection:
            connection.execute("INSERT INTO payment VALUES (%s, %s)", (job.id, job.attempt))
            if job.args.then == "stolen":
                with psycopg.connect(job.args.dsn, autocommit=True) as other:
                    other.execute(
                        "UPDATE synk.job SET claim_seq = claim_seq + 100 WHERE id = %s", (job.id,)
                    )
            # As long as the kernel is asked what it took.
            sum(range(200_000))
            if job.args.then.startswith("complete with"):
                self.complete_with(job, connection)
                return
            job.complete_tx(connection, {"paid": True})
            if job.args.then == "fail before the commit" and job.attempt == 1:
                raise RuntimeError(job.args.then)
        job.progress(1, 1)
        print("paid", flush=True)
        if job.args.then == "fail after the commit":
            raise RuntimeError(job.args.then)
        if job.args.then == "die after the commit":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.args.then == "hang after the commit":
            time.sleep(600)
