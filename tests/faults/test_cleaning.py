"""D30: a table with very much to clean, and a server that is slow at it."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import psycopg

import synk
from support.jobs import handlers
from support.servers import Server
from support.supervising import ended, is_running, supervised, wait_until
from synk import JobState
from synk.storage.postgres import PostgresStorage
from synk.storage.sweeping import Cleaned

OLD = 300_000
CLEANER = synk.CleanerConfig(
    clean_interval=dt.timedelta(milliseconds=1),
    by_status={JobState.COMPLETED: dt.timedelta(days=1)},
)
FILL = """
INSERT INTO synk.job (kind, name, queue, args, state, attempt, attempted_at, finalized_at)
SELECT 'old', 'old', 'old', jsonb_build_object('n', n), 'completed', 1, t.long_ago, t.long_ago
FROM generate_series(1, %s) AS n CROSS JOIN (SELECT now() - interval '2 days' AS long_ago) AS t
"""
LEFT = "SELECT count(*) FROM synk.job WHERE kind = 'old'"
SLOWLY = """
CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(0.005); RETURN OLD; END $$;
CREATE TRIGGER slowly BEFORE DELETE ON synk.job FOR EACH ROW EXECUTE FUNCTION slowly();
"""


class Unannounced(PostgresStorage):
    """Nothing is announced, as behind a pooler; takes note of what its cleaner is asked for."""

    def __init__(self, target: str) -> None:
        super().__init__(target, pooler="transaction")
        self.limits: list[int] = []

    def clean(
        self,
        state: JobState,
        retention: dt.timedelta,
        *,
        limit: int,
        after: dt.datetime | None = None,
    ) -> Cleaned:
        self.limits.append(limit)
        return super().clean(state, retention, limit=limit, after=after)


def fill(connection: psycopg.Connection, count: int) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")
        connection.execute(FILL, (count,))


def left(connection: psycopg.Connection) -> int:
    row = connection.execute(LEFT).fetchone()
    assert row is not None
    return row[0]


def test_d30_due_jobs_and_cancels_do_not_wait_until_a_large_table_is_cleaned(
    dsn: str, connection: psycopg.Connection, tmp_path: Path
) -> None:
    with supervised(dsn, storage=Unannounced(dsn), cleaner=CLEANER) as client:
        running = client.insert("x", handlers.Slow(str(tmp_path / "gate")))
        wait_until(lambda: is_running(client, running))
        fill(connection, OLD)
        wait_until(lambda: left(connection) < OLD, what="the cleaning to begin")

        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.3)
        due = client.insert("x", handlers.Noop(), synk.InsertOptions(scheduled_at=soon))
        client.cancel(running)
        rows = [ended(client, job_id) for job_id in (due, running)]
        still_old = left(connection)

    assert [row.state for row in rows] == [JobState.COMPLETED, JobState.CANCELLED]
    assert still_old > 0


def test_d30_a_server_that_is_slow_at_removing_is_given_few_rows_at_a_time(
    server: Server, tmp_path: Path
) -> None:
    """Two thousand of these would take ten seconds."""
    with server.database() as dsn, psycopg.connect(dsn, autocommit=True) as connection:
        fill(connection, 20_000)
        connection.execute(SLOWLY)
        storage = Unannounced(dsn)
        with supervised(dsn, storage=storage, cleaner=CLEANER) as client:
            wait_until(lambda: len(storage.limits) > 6, what="batches")
            job_id = client.insert("x", handlers.Slow(str(tmp_path / "gate")))
            wait_until(lambda: is_running(client, job_id))
            client.cancel(job_id)
            assert ended(client, job_id).state is JobState.CANCELLED
            assert left(connection) > 0

    assert max(storage.limits[6:]) <= 50
