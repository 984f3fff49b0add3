"""D15, D16, D17: servers without room for connections or for data, and who comes back to them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import synk
from support import servers
from support.facts import Facts
from support.jobs import handlers
from support.proxy import Proxy
from support.servers import Server
from support.small_disk import with_small_disk
from support.supervising import ended, is_running, make_client, supervised, wait_until
from synk import JobState, telemetry
from synk.storage.connecting import POOL_CONNECTIONS_MAX

TRIES = 15


# -- D15 ------------------------------------------------------------------------------------------


class Login:
    """A role of its own, which may have so many connections and no more."""

    def __init__(self, admin: psycopg.Connection) -> None:
        self._admin = admin
        self.name = f"limited_{admin.info.dbname[-12:]}"
        self._role = sql.Identifier(self.name)
        admin.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x' IN ROLE synk_supervisor").format(self._role)
        )

    def may_have(self, connections: int) -> None:
        self._admin.execute(
            sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(
                self._role, sql.Literal(connections)
            )
        )

    def end_connections(self) -> None:
        self._admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            (self.name,),
        )

    def drop(self) -> None:
        self._admin.execute(sql.SQL("DROP ROLE {}").format(self._role))


@pytest.fixture
def login(connection: psycopg.Connection) -> Iterator[Login]:
    login = Login(connection)
    yield login
    login.drop()


def test_d15_a_supervisor_never_has_more_than_eight_connections(dsn: str, login: Login) -> None:
    """A pool of five and one that tries it out, one for the heartbeat and one that listens."""
    login.may_have(POOL_CONNECTIONS_MAX + 3)
    with supervised(make_conninfo(dsn, user=login.name, password="x")) as client:
        facts = Facts(client)
        ids = client.insert_many([("x", handlers.Noop())] * 200)
        rows = [ended(client, job_id) for job_id in ids]

    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}
    assert facts.of(telemetry.StorageFailing) == []


def test_d15_without_a_connection_left_everything_waits_and_goes_on(
    dsn: str, login: Login, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    limited = make_conninfo(dsn, user=login.name, password="x")
    with make_client(dsn) as direct, supervised(limited) as client:
        facts = Facts(client)
        running = direct.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(direct, running))
        login.may_have(0)
        login.end_connections()
        gate.touch()
        later = direct.insert("x", handlers.Noop())
        facts.wait_for(telemetry.StorageFailing, loop="acknowledging")
        with pytest.raises(synk.StorageUnavailable, match="too many connections"):
            client.insert("x", handlers.Noop())
        waiting = direct.storage.counts()

        login.may_have(-1)
        rows = [ended(direct, job_id) for job_id in (running, later)]

    assert waiting == {JobState.RUNNING: 1, JobState.AVAILABLE: 1}
    assert {(row.state, row.attempt, row.uncounted) for row in rows} == {(JobState.COMPLETED, 1, 0)}
    assert len(facts.of(telemetry.StorageFailing, loop="acknowledging")) == 1
    assert facts.of(telemetry.LeaseRanOut) == []


# -- D16 ------------------------------------------------------------------------------------------


def test_d16_who_comes_back_to_a_server_does_not_storm_it(dsn: str, tmp_path: Path) -> None:
    nowhere = make_conninfo(dsn, host=str(tmp_path))
    with Proxy(dsn) as proxy, supervised(proxy.dsn) as client:
        ended(client, client.insert("x", handlers.Noop()))
        before = proxy.connections
        began = time.monotonic()
        proxy.lead_to(nowhere)
        wait_until(lambda: proxy.connections >= before + TRIES, what="them to try again")
        took_s = time.monotonic() - began
        proxy.lead_to(dsn)
        ended(client, wait_until(lambda: inserted(client), what="an insert"))

    # Six loops and the pool, each at growing intervals.
    assert took_s > 0.5


def inserted(client: synk.Client) -> int | None:
    try:
        return client.insert("x", handlers.Noop())
    except synk.StorageUnavailable:
        return None


# -- D17 ------------------------------------------------------------------------------------------


@pytest.fixture
def cramped() -> Iterator[str]:
    """A database on a disk with room for little more than its tables."""
    # The server may run as another user, who cannot enter the tests' own folders.
    folder = Path(tempfile.mkdtemp(prefix="synk-disk-"))
    with ExitStack() as stack:
        stack.callback(folder.rmdir)
        found: list[Server] = []
        with_small_disk(
            folder, "24m", lambda: found.append(stack.enter_context(servers.embedded_server()))
        )
        (server,) = found
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE TABLESPACE small LOCATION {}").format(sql.Literal(str(folder)))
            )
        with server.database() as dsn:
            with psycopg.connect(server.dsn, autocommit=True) as admin:
                name = sql.Identifier(str(conninfo_to_dict(dsn)["dbname"]))
                admin.execute(sql.SQL("ALTER DATABASE {} SET TABLESPACE small").format(name))
            yield dsn


def fill_up(connection: psycopg.Connection) -> None:
    connection.execute("CREATE TABLE filler (x text); ALTER TABLE filler ALTER x SET STORAGE plain")
    insert = "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, %s)"
    for rows in (1000, 1):
        with contextlib.suppress(psycopg.errors.DiskFull):
            while True:
                connection.execute(insert.encode(), (rows,))


def test_d17_on_a_full_disk_outcomes_are_kept_and_nothing_is_lost(
    cramped: str, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    with psycopg.connect(cramped, autocommit=True) as admin, supervised(cramped) as client:
        facts = Facts(client)
        slow = [client.insert("x", handlers.Slow(str(gate))) for _ in range(2)]
        wait_until(lambda: all(is_running(client, job_id) for job_id in slow))
        ids = client.insert_many([("x", handlers.Write(str(log), str(n))) for n in range(500)])
        fill_up(admin)
        gate.touch()
        facts.wait_for(telemetry.StorageFailing)
        with pytest.raises(synk.StorageUnavailable, match="No space left"):
            client.insert_many([("x", handlers.Noop())] * 1000)
        unfinished = len(ids) - client.storage.counts().get(JobState.COMPLETED, 0)

        admin.execute("DROP TABLE filler")
        rows = [ended(client, job_id) for job_id in (*slow, *ids)]

    assert unfinished > 0
    assert {(row.state, row.attempt, row.uncounted) for row in rows} == {(JobState.COMPLETED, 1, 0)}
    assert sorted(map(int, log.read_text().split())) == list(range(500))
    assert "No space left on device" in facts.text()
    assert facts.of(telemetry.LeaseRanOut) == []
