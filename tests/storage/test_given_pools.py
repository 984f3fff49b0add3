"""A psycopg_pool of the user's own: every connection is made as that pool makes its own."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool, NullConnectionPool

import synk
from support.facts import Facts
from support.jobs import handlers
from support.servers import LOGIN, Server
from support.supervising import ended, supervised, wait_until
from synk import JobState, telemetry
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER

COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"


class Vault:
    """Hands out a password that is another one every time, as a cloud's tokens are."""

    def __init__(self, admin: psycopg.Connection, dsn: str) -> None:
        self._admin = admin
        self._dsn = dsn
        self._lock = threading.Lock()
        self.handed_out = 0
        self.is_down = False

    def password(self) -> str:
        with self._lock:
            if self.is_down:
                raise TimeoutError("the vault does not answer")
            self.handed_out += 1
            password = f"token-{self.handed_out}"
            self._admin.execute(
                sql.SQL("ALTER ROLE {} PASSWORD {}").format(
                    sql.Identifier(LOGIN), sql.Literal(password)
                )
            )
            return password

    def conninfo(self) -> str:
        return make_conninfo(self._dsn, user=LOGIN, password=self.password())

    def kwargs(self) -> dict[str, Any]:
        return {"user": LOGIN, "password": self.password()}


@pytest.fixture
def vault(connection: psycopg.Connection, dsn: str) -> Iterator[Vault]:
    role = sql.Identifier(LOGIN)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN SUPERUSER").format(role))
    try:
        yield Vault(connection, dsn)
    finally:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (LOGIN,)
        )
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


def password_pool(vault: Vault, dsn: str, how: str, **options: Any) -> ConnectionPool[Any]:
    if how == "conninfo":
        return ConnectionPool(vault.conninfo, open=True, **options)
    if how == "kwargs":
        return ConnectionPool(dsn, kwargs=vault.kwargs, open=True, **options)

    class Rotating(psycopg.Connection):
        @classmethod
        def connect(cls, conninfo: str = "", **kwargs: Any) -> Any:
            return super().connect(conninfo, user=LOGIN, password=vault.password(), **kwargs)

    return ConnectionPool(dsn, connection_class=Rotating, open=True, **options)


@pytest.mark.parametrize("how", ["conninfo", "kwargs", "connection_class"])
def test_credentials_that_rotate_are_asked_for_anew_by_every_connection(
    server: Server, dsn: str, vault: Vault, connection: psycopg.Connection, how: str
) -> None:
    with (
        password_pool(vault, dsn, how, min_size=1, max_size=2) as pool,
        supervised(dsn, storage=PostgresStorage(pool), lease_ttl=timedelta(seconds=6)) as client,
    ):
        facts = Facts(client)
        ended(client, client.insert("x", handlers.Noop()))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (LOGIN,)
        )
        facts.wait_for(telemetry.StorageFailing, loop="renewing the lease")
        facts.wait_for(telemetry.StorageRecovered, loop="renewing the lease")
        facts.wait_for(telemetry.StorageRecovered, loop="listening")
        row = ended(client, client.insert("x", handlers.Noop()))

    assert row.state is JobState.COMPLETED
    assert facts.of(telemetry.LeaseRanOut) == []


@pytest.mark.parametrize("how", ["conninfo", "kwargs", "connection_class"])
def test_an_async_client_on_a_pool_whose_credentials_rotate_asks_for_them_too(
    dsn: str, vault: Vault, how: str
) -> None:
    async def use(storage: PostgresStorage) -> synk.JobRow | None:
        async with synk.AsyncClient(storage=storage) as client:
            ids = await asyncio.gather(*(client.insert("x", handlers.Noop()) for _ in range(20)))
            await client.insert_many([("x", handlers.Noop())] * 6_000)
            return await client.get(ids[0])

    with password_pool(vault, dsn, how, min_size=1, max_size=1) as pool:
        row = asyncio.run(use(PostgresStorage(pool)))

    assert row is not None
    gc.collect()  # nothing that was left open complains


@pytest.mark.parametrize("how", ["conninfo", "kwargs", "connection_class"])
def test_a_vault_that_is_down_is_trouble_that_passes_and_is_told(
    dsn: str, vault: Vault, how: str
) -> None:
    with password_pool(vault, dsn, how, min_size=0, max_size=1) as pool:
        storage = PostgresStorage(pool)
        vault.is_down = True
        with (
            pytest.raises(synk.StorageUnavailable, match="TimeoutError: the vault does not answer"),
            storage.heartbeat(OWNER),
        ):
            pass
        vault.is_down = False
        with storage.heartbeat(OWNER) as heartbeat:
            assert heartbeat.beat() is None


class Named(psycopg.Connection[Any]):
    """A class of the user's own."""


def configure(connection: psycopg.Connection[Any]) -> None:
    assert isinstance(connection, Named)
    connection.execute("SET application_name = 'configured'")
    connection.commit()


def test_all_connections_of_a_supervisor_are_configured_as_the_pool_says(
    server: Server, dsn: str, connection: psycopg.Connection
) -> None:
    with (
        ConnectionPool(
            dsn,
            connection_class=Named,
            configure=configure,
            kwargs={"row_factory": dict_row},
            min_size=1,
            max_size=1,
            open=True,
        ) as pool,
        supervised(dsn, storage=PostgresStorage(pool)) as client,
    ):
        ended(client, client.insert("x", handlers.Noop()))
        # One in the pool, one renews the lease, one listens.
        wait_until(
            lambda: connection.execute(COUNT, ("configured",)).fetchone() == (3,),
            what="three connections",
        )
        others = connection.execute(
            "SELECT application_name FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name <> 'configured' AND backend_type = 'client backend'"
        ).fetchall()

    assert others == []


def test_an_async_clients_sessions_are_configured_as_the_pool_says(dsn: str) -> None:
    async def use(storage: PostgresStorage) -> Any:
        async with synk.AsyncClient(storage=storage) as client:
            await client.insert("x", handlers.Noop())
            pool = await client.storage._opened_pool()
            async with pool.connection() as own:
                return await (await own.execute("SHOW application_name")).fetchone()

    with ConnectionPool(
        dsn, connection_class=Named, configure=configure, min_size=1, open=True
    ) as pool:
        assert asyncio.run(use(PostgresStorage(pool))) == ("configured",)


def leaves_open(connection: psycopg.Connection) -> None:
    connection.execute("SELECT 1")


def raises(connection: psycopg.Connection) -> None:
    raise KeyError("no such tenant")


@pytest.mark.parametrize(
    ("configure", "said"), [(leaves_open, "INTRANS"), (raises, "no such tenant")]
)
def test_a_configure_that_fails_is_told_by_the_pools_name(
    dsn: str, configure: Callable[[Any], None], said: str
) -> None:
    pool = ConnectionPool(dsn, configure=configure, open=False, name="mine")
    storage = PostgresStorage(pool)

    with (
        pytest.raises(synk.StorageUnavailable, match=f"'mine'.*{said}"),
        storage.heartbeat(OWNER),
    ):
        pass


def test_migrations_are_made_on_a_connection_as_the_pool_makes_it(empty_dsn: str) -> None:
    kwargs = {"row_factory": dict_row}
    with ConnectionPool(empty_dsn, kwargs=kwargs, min_size=1, open=True) as pool:
        storage = PostgresStorage(pool)
        assert storage.migrate()
        assert storage.migrate() == []
        storage.ping()


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("kind", [ConnectionPool, NullConnectionPool])
def test_a_pool_of_one_connection_is_enough_for_a_supervisor(
    dsn: str, kind: type[ConnectionPool[Any]], autocommit: bool
) -> None:
    with (
        kind(dsn, kwargs={"autocommit": autocommit}, min_size=0, max_size=1, open=True) as pool,
        supervised(dsn, storage=PostgresStorage(pool)) as client,
    ):
        facts = Facts(client)
        ids = client.insert_many([("x", handlers.Noop())] * 3_000)
        rows = [ended(client, job_id) for job_id in ids[::100]]

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert facts.of(telemetry.StorageFailing) == []


def test_a_pool_that_is_not_open_or_closed_is_told(dsn: str) -> None:
    pool = ConnectionPool(dsn, min_size=1, open=False)
    client = synk.Client(storage=PostgresStorage(pool))
    with pytest.raises(synk.StorageUnavailable, match="not open"):
        client.insert("x", handlers.Noop())

    with pool:
        client.insert("x", handlers.Noop())

    with pytest.raises(synk.StorageUnavailable, match="closed"):
        client.insert("x", handlers.Noop())


def test_an_insert_after_a_restart_is_not_unknown_with_a_pool_of_the_users(
    dsn: str, connection: psycopg.Connection
) -> None:
    kwargs = {"application_name": "users"}
    with ConnectionPool(dsn, kwargs=kwargs, min_size=3, open=True) as pool:
        pool.wait()
        client = synk.Client(storage=PostgresStorage(pool))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'users'"
        )
        wait_until(lambda: connection.execute(COUNT, ("users",)).fetchone() == (0,))

        assert [client.insert("x", handlers.Noop()) for _ in range(5)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("autocommit", [True, False])
def test_an_async_pool_of_the_users_is_used_and_left_open(dsn: str, autocommit: bool) -> None:
    async def use() -> None:
        async with AsyncConnectionPool(
            dsn, kwargs={"autocommit": autocommit, "row_factory": dict_row}, min_size=1, max_size=1
        ) as pool:
            async with synk.AsyncClient(storage=PostgresStorage(pool)) as client:
                first = await client.insert("x", handlers.Noop())
                ids = await client.insert_many([("x", handlers.Noop())] * 6_000)
                assert ids == list(range(first + 1, first + 6_001))
                assert await client.cancel(first) is synk.Change.APPLIED
            assert not pool.closed
            async with pool.connection() as own:
                assert await (
                    await own.execute("SELECT count(*) AS n FROM synk.job")
                ).fetchone() == {"n": 6_001}

    asyncio.run(use())


def test_an_async_pool_is_refused_where_threads_would_use_it(dsn: str) -> None:
    pool = AsyncConnectionPool(dsn, open=False)
    client = synk.Client(storage=PostgresStorage(pool))

    with pytest.raises(synk.ConfigurationError, match="only an AsyncClient"):
        client.insert("x", handlers.Noop())
