"""D5: everything through a real PgBouncer in transaction mode."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

import synk
from support import bouncer
from support.jobs import handlers
from support.own_ends import OwnEnds
from support.servers import Server
from support.supervising import ended, supervised
from synk.storage.postgres import PostgresStorage
from synk.testing import StorageConformance

pytestmark = pytest.mark.skipif(
    bouncer.PROGRAM is None, reason="no pgbouncer on this machine: apt-get install pgbouncer"
)


@pytest.fixture(scope="module")
def through(server: Server) -> Iterator[str]:
    with bouncer.bouncing(server.emptied()) as through:
        yield through


class TestD5(StorageConformance, OwnEnds):
    """The contract, through PgBouncer."""

    @pytest.fixture
    def storage(self, server: Server, through: str) -> Iterator[PostgresStorage]:
        server.emptied()
        storage = PostgresStorage(through, pooler="transaction")
        yield storage
        storage.close()


def test_d5_a_supervisor_runs_jobs_without_announcements(server: Server, through: str) -> None:
    server.emptied()
    storage = PostgresStorage(through, pooler="transaction")
    with supervised(through, storage=storage, lease_ttl=timedelta(seconds=6)) as client:
        ids = client.insert_many([("typed", handlers.Typed(n)) for n in range(300)])

        rows = [ended(client, job_id) for job_id in ids]

    assert {row.state for row in rows} == {synk.JobState.COMPLETED}
    assert {row.attempt for row in rows} == {1}


def test_d5_the_setting_is_needed(through: str) -> None:
    """Without it the session's settings, which PgBouncer does not know, are refused."""
    storage = PostgresStorage(through)

    with pytest.raises(synk.StorageUnavailable, match="options"):
        storage.ping()
    storage.close()


def test_d5_migrations_go_through_it(server: Server) -> None:
    with server.database(migrated=False) as dsn, bouncer.bouncing(dsn) as through:
        storage = PostgresStorage(through, pooler="transaction")
        assert storage.migrate() != []
        storage.ping()
        storage.close()
        with psycopg.connect(dsn) as connection:
            assert connection.execute("SELECT count(*) FROM synk.job").fetchone() == (0,)
