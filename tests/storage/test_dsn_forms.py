"""Each way to name a database leads to that one, keeps its settings, and is told rightly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

import synk
from support.supervising import opened
from synk.testing.making import insert, raised

CANARY = "c4nary"
SETTINGS = "-c lock_timeout=7s -c work_mem=5MB"
ASKED = ("lock_timeout", "work_mem", "statement_timeout", "DateStyle")
KEPT = ["7s", "5MB", "50s", "ISO, MDY"]


class Place:
    """A database, and where it is, to be named in many ways."""

    def __init__(self, dsn: str, folder: Path, environment: pytest.MonkeyPatch) -> None:
        given = conninfo_to_dict(dsn)
        self.host, self.database = str(given["host"]), str(given["dbname"])
        self.port, self.user = str(given.get("port") or 5432), str(given["user"])
        self._environment = environment
        self._file = folder / "services"

    @property
    def told(self) -> str:
        return f"database {self.database} at {self.host}:{self.port}"

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._environment.setenv(name, value)

    def serve(self, **more: str) -> None:
        """Makes the service ``ours`` known."""
        lines = {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}
        lines |= {"password": CANARY, **more}
        text = "\n".join(f"{name}={value}" for name, value in lines.items())
        self._file.write_text(f"[ours]\n{text}\n")
        self.set(PGSERVICEFILE=str(self._file))


@pytest.fixture
def place(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(dsn, tmp_path, monkeypatch)


def a_url(place: Place) -> str:
    host = quote(place.host, safe="")
    return f"postgresql://{place.user}:{CANARY}@{host}:{place.port}/{place.database}"


def a_url_with_its_place_behind(place: Place) -> str:
    return (
        f"postgresql:///{place.database}?host={place.host}&port={place.port}&user={place.user}"
        f"&password={CANARY}"
    )


def words(place: Place) -> str:
    return f"host={place.host} port={place.port} user={place.user} dbname={place.database}"


def the_environment(place: Place) -> str:
    place.set(PGHOST=place.host, PGPORT=place.port, PGUSER=place.user, PGDATABASE=place.database)
    place.set(PGPASSWORD=CANARY)
    return ""


def the_environment_but_the_database(place: Place) -> str:
    the_environment(place)
    place.set(PGDATABASE="another")
    return f"dbname={place.database}"


def a_service(place: Place) -> str:
    place.serve()
    return "service=ours"


def a_service_in_a_url(place: Place) -> str:
    place.serve()
    return "postgresql:///?service=ours"


def a_service_but_the_database(place: Place) -> str:
    place.serve(dbname="another")
    return f"service=ours dbname={place.database}"


def the_service_of_the_environment(place: Place) -> str:
    place.serve()
    place.set(PGSERVICE="ours", PGDATABASE="another")
    return "postgresql://"


FORMS: list[Callable[[Place], str]] = [
    a_url,
    a_url_with_its_place_behind,
    words,
    the_environment,
    the_environment_but_the_database,
    a_service,
    a_service_in_a_url,
    a_service_but_the_database,
    the_service_of_the_environment,
]


def settings(storage: synk.PostgresStorage) -> list[str]:
    """What a session of the storage's says of `ASKED`."""
    with storage.connector.connection() as connection:
        rows = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in ASKED]
    return [row[0] for row in rows if row is not None]


@pytest.mark.parametrize("form", FORMS)
def test_a_storage_says_where_it_leads_to_however_that_is_said(
    place: Place, form: Callable[[Place], str], connection: psycopg.Connection
) -> None:
    with opened(form(place)) as storage:
        before = storage.describe()
        insert(storage)
        shown = f"{before} {storage!r}"

    assert before == place.told
    assert CANARY not in shown
    assert connection.execute("SELECT count(*) FROM synk.job").fetchone() == (1,)


@pytest.mark.parametrize("form", FORMS)
def test_settings_in_the_environment_are_kept_and_synks_besides(
    place: Place, form: Callable[[Place], str]
) -> None:
    place.set(PGOPTIONS=SETTINGS)

    with opened(form(place)) as storage:
        assert settings(storage) == KEPT


@pytest.mark.parametrize("form", [a_service, the_service_of_the_environment])
def test_settings_in_a_service_file_are_kept_and_come_before_the_environments(
    place: Place, form: Callable[[Place], str]
) -> None:
    dsn = form(place)
    place.serve(options=SETTINGS)
    place.set(PGOPTIONS="-c lock_timeout=9s")

    with opened(dsn) as storage:
        assert settings(storage) == KEPT


def test_settings_in_the_environment_reach_an_asyncio_client_too(place: Place, dsn: str) -> None:
    place.set(PGOPTIONS="-c default_transaction_read_only=on")

    async def use() -> BaseException | None:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            try:
                await client.cancel(1)
            except synk.StorageUnavailable as error:
                return error
        return None

    assert "read-only" in str(asyncio.run(use()))


def test_of_several_hosts_each_is_told(place: Place) -> None:
    dsn = make_conninfo(words(place), host=f"/nowhere,{place.host}", port=f"1,{place.port}")

    with opened(dsn) as storage:
        assert storage.ping() == []
        assert storage.describe() == (
            f"database {place.database} at /nowhere:1,{place.host}:{place.port}"
        )


@pytest.mark.parametrize(
    ("named", "variables", "told"),
    [
        ("user=me", {}, "database me at local socket:5432"),
        ("dbname=d", {"PGHOSTADDR": "127.0.0.1"}, "database d at 127.0.0.1:5432"),
        ("hostaddr=127.0.0.1 dbname=d", {}, "database d at 127.0.0.1:5432"),
        ("host=h hostaddr=127.0.0.1 dbname=d", {"PGPORT": "7"}, "database d at h:7"),
        ("postgresql://[::1]:7/d", {}, "database d at [::1]:7"),
        ("postgresql://h1,h2:6/d%20e", {}, "database d e at h1:5432,h2:6"),
        ("host=h1,,h3 port=7 dbname=d", {}, "database d at h1:7,local socket:7,h3:7"),
        ("service=none", {}, "the database of service none, which is not known"),
        ("", {"PGSERVICE": "none"}, "the database of service none, which is not known"),
    ],
)
def test_what_is_not_said_is_what_libpq_takes_instead(
    place: Place, named: str, variables: dict[str, str], told: str
) -> None:
    place.serve()
    place.set(**variables)

    assert synk.PostgresStorage(named).describe() == told


def test_a_service_that_is_not_known_is_named_by_the_error(place: Place) -> None:
    place.serve()

    with opened("service=none") as storage:
        error = raised(storage.ping)

    assert isinstance(error, synk.StorageUnavailable)
    assert 'definition of service "none" not found' in str(error)


@pytest.mark.parametrize(
    "made",
    [
        lambda dsn: {"conninfo": lambda: dsn},
        lambda dsn: {"kwargs": lambda: {**conninfo_to_dict(dsn), "autocommit": True}},
        lambda dsn: {
            "conninfo": lambda: make_conninfo(dsn, dbname="another"),
            "kwargs": {"dbname": conninfo_to_dict(dsn)["dbname"]},
        },
    ],
)
def test_a_pool_that_asks_where_to_connect_is_told_rightly(
    place: Place, dsn: str, made: Callable[[str], dict[str, Any]]
) -> None:
    secret = make_conninfo(dsn, password=CANARY)
    with ConnectionPool(open=False, min_size=0, max_size=2, **made(secret)) as pool:
        storage = synk.PostgresStorage(pool)
        before = storage.describe()
        storage.ping()

        assert (before, storage.describe()) == (place.told, place.told)
        assert CANARY not in repr(storage)


def test_a_pool_for_asyncio_that_asks_where_to_connect_is_told_once_it_knows(
    place: Place, dsn: str
) -> None:
    async def where() -> str:
        return dsn

    async def use() -> tuple[str, str]:
        async with AsyncConnectionPool(where, min_size=0, max_size=2, name="theirs") as pool:
            storage = synk.PostgresStorage(pool)
            before = storage.describe()
            async with synk.AsyncClient(storage=storage) as client:
                await client.get(1)
            return before, storage.describe()

    assert asyncio.run(use()) == ("the database of the pool 'theirs'", place.told)
