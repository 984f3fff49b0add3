"""D10: a transaction somewhere that stays open, so that no vacuum removes what is over."""

from __future__ import annotations

from pathlib import Path

import psycopg

from support.jobs import handlers
from support.supervising import supervised, wait_until
from synk import JobState

JOBS = 1500


def test_d10_beside_an_open_transaction_every_job_runs_once(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with psycopg.connect(dsn) as analyst, supervised(dsn) as client:
        analyst.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        analyst.execute("SELECT count(*) FROM synk.job")
        client.insert_many([("x", handlers.Write(str(log), str(n))) for n in range(JOBS)])
        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: JOBS})
        connection.execute("VACUUM synk.job")
        seen = analyst.execute("SELECT count(*) FROM synk.job").fetchone()

    assert seen == (0,)
    assert sorted(map(int, log.read_text().split())) == list(range(JOBS))


def test_d10_a_supervisor_leaves_no_transaction_open_while_jobs_run(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with supervised(dsn) as client:
        job_id = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: any(slot.job_id for slot in client.running()))
        oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
        before = connection.execute(oldest).fetchone()
        assert before is not None
        # Each transaction that writes takes a number; what is still open holds the oldest back.
        wait_until(
            lambda: (connection.execute(oldest).fetchone() or (0,))[0] > before[0] + 3,
            what="transactions to come and go",
        )
        states = connection.execute(
            "SELECT DISTINCT state FROM pg_stat_activity WHERE application_name = 'synk'"
            " AND datname = current_database() AND xact_start < now() - interval '10 s'"
        ).fetchall()
        gate.touch()
        wait_until(lambda: client.storage.counts() == {JobState.COMPLETED: 1})
        assert client.get(job_id) is not None

    assert states == []
