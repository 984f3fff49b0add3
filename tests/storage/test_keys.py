"""One idempotency key is one job, and whoever uses it for another job is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
import pytest

import synk
from support.supervising import wait_until
from synk.storage.postgres import PostgresStorage


@dataclass
class Resize(synk.JobArgs, kind="resize"):
    path: str
    width: int = 256
    more: dict[str, object] = field(default_factory=dict[str, object])


@dataclass
class Remove(synk.JobArgs, kind="remove"):
    path: str
    width: int = 256
    more: dict[str, object] = field(default_factory=dict[str, object])


KEYED = synk.InsertOptions(idempotency_key="the key")
BEFORE = 15
"""A version that compares no keys."""
FIRST = Resize("a.jpg", more={"x": 1, "y": [1, 2]})


@pytest.fixture
def client(storage: PostgresStorage) -> synk.Client:
    return synk.Client(storage=storage)


def refused(insert: Callable[[], object]) -> synk.KeyReused:
    with pytest.raises(synk.KeyReused) as caught:
        insert()
    return caught.value


def test_d1_a_key_with_other_arguments_says_so(client: synk.Client) -> None:
    job_id = client.insert("x", FIRST, KEYED)

    error = refused(lambda: client.insert("x", Resize("b.jpg"), KEYED))

    assert isinstance(error, synk.InvalidJob)
    assert (error.field, error.value, error.job_id) == ("idempotency_key", "the key", job_id)
    assert str(error).startswith(f"idempotency_key='the key': is that of job {job_id}, which has")
    assert "other arguments" in str(error)
    assert client.storage.counts() == {synk.JobState.AVAILABLE: 1}


def test_d1_a_key_with_another_kind_says_so(client: synk.Client) -> None:
    job_id = client.insert("x", Resize("a.jpg"), KEYED)

    error = refused(lambda: client.insert("x", Remove("a.jpg"), KEYED))

    assert f"is that of job {job_id}, which is of another kind" in str(error)


def test_the_same_arguments_in_another_order_or_form_are_the_same_job(
    client: synk.Client,
) -> None:
    job_id = client.insert("x", FIRST, KEYED)
    again = Resize("a.jpg", more={"y": [1, 2], "x": 1.0})

    assert client.insert("another name", again, KEYED) == job_id
    other_options = synk.InsertOptions(idempotency_key="the key", queue="slow", max_retries=0)
    assert client.insert("x", again, other_options) == job_id


SETS = """
import dataclasses, enum, os, typing
import msgspec, pydantic, synk

class Color(enum.Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"

@dataclasses.dataclass(frozen=True)
class Tag:
    name: str

@dataclasses.dataclass
class Plain(synk.JobArgs, kind="plain"):
    names: set[str]
    tags: dict[str, list[frozenset[Tag]]]

class Struct(msgspec.Struct, rename="camel", omit_defaults=True):
    kind: typing.ClassVar[str] = "struct"
    the_colors: set[Color]
    more: Plain | None = None

class Inner(pydantic.BaseModel):
    colors: frozenset[Color]

class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    kind: typing.ClassVar[str] = "model"
    names: set[str] = pydantic.Field(alias="theNames")
    inner: list[Inner]

names = {f"name {n}" for n in range(20)}
plain = Plain(names, {"x": [frozenset(map(Tag, names))]})
given = [
    plain,
    Struct(set(Color), plain),
    Model(theNames=names, inner=[Inner(colors=frozenset(Color))], other={"a", "b", "c"}),
]
client = synk.Client(storage=synk.PostgresStorage())
for args in given:
    print(client.insert("x", args, synk.InsertOptions(idempotency_key=args.kind)))
"""


def test_d1_sets_are_the_same_arguments_in_each_process(client: synk.Client, dsn: str) -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", SETS],
            env={**os.environ, "PYTHONHASHSEED": seed, "SYNK_DATABASE_URL": dsn},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in "123"
    }  # fmt: skip

    assert len(said) == 1
    assert client.storage.counts() == {synk.JobState.AVAILABLE: 3}


def test_of_many_with_keys_one_that_differs_stores_none(client: synk.Client) -> None:
    keyed = [synk.InsertOptions(idempotency_key=f"k{number}") for number in range(3)]
    ids = client.insert_many([("x", Resize(str(n)), keyed[n]) for n in range(3)])

    same = [("x", Resize("plain"))] + [("x", Resize(str(n)), keyed[n]) for n in range(3)]
    assert client.insert_many(same)[1:] == ids
    other = [("x", Resize("plain")), ("x", Resize("0"), keyed[0]), ("x", Resize("1"), keyed[2])]
    error = refused(lambda: client.insert_many(other))

    assert (error.value, error.job_id) == ("k2", ids[2])
    assert client.storage.counts() == {synk.JobState.AVAILABLE: 4}


@pytest.mark.parametrize("taken", ["k0", "k2999"])
def test_a_key_is_looked_at_in_each_statement_of_a_large_insert(
    client: synk.Client, taken: str
) -> None:
    keyed = [
        ("x", Resize(str(n)), synk.InsertOptions(idempotency_key=f"k{n}")) for n in range(3000)
    ]
    client.insert("x", Resize("other"), synk.InsertOptions(idempotency_key=taken))

    assert refused(lambda: client.insert_many(keyed)).value == taken
    assert client.storage.counts() == {synk.JobState.AVAILABLE: 1}


def test_d1_two_producers_at_one_time_with_one_key_and_other_arguments(
    client: synk.Client, storage: PostgresStorage, connection: psycopg.Connection, dsn: str
) -> None:
    """The second waits for the first one's transaction, and is told then."""
    with ThreadPoolExecutor(1) as threads, psycopg.connect(dsn) as own:
        job_id = client.insert_tx(own, "x", FIRST, KEYED)
        same = threads.submit(client.insert, "x", FIRST, KEYED)
        wait_until(lambda: waits(connection))
        own.commit()
        assert same.result() == job_id

        client.delete(job_id)
        job_id = client.insert_tx(own, "x", FIRST, KEYED)
        other = threads.submit(client.insert, "x", Resize("b.jpg"), KEYED)
        wait_until(lambda: waits(connection))
        own.commit()
        error = other.exception()

    assert isinstance(error, synk.KeyReused)
    assert error.job_id == job_id


def waits(connection: psycopg.Connection) -> bool:
    return bool(
        connection.execute(
            "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            " AND datname = current_database()"
        ).fetchall()
    )


def test_a_transaction_goes_on_behind_a_savepoint(client: synk.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as own:
        job_id = client.insert_tx(own, "x", FIRST, KEYED)
        for _ in range(2):
            with pytest.raises(synk.KeyReused), own.transaction():
                client.insert_tx(own, "x", Remove("a.jpg"), KEYED)
            assert client.insert_tx(own, "x", FIRST, KEYED) == job_id
        other = client.insert_tx(
            own, "x", Remove("a.jpg"), synk.InsertOptions(idempotency_key="another")
        )

    assert [row.id for row in client.storage.get([job_id, other])] == [job_id, other]


def test_an_awaited_insert_is_told_too(storage: PostgresStorage) -> None:
    async def insert() -> None:
        client = synk.AsyncClient(storage=storage)
        try:
            await client.insert("x", FIRST, KEYED)
            await client.insert("x", Resize("b.jpg"), KEYED)
        finally:
            await client.close()

    with pytest.raises(synk.KeyReused):
        asyncio.run(insert())


def test_who_writes_plain_sql_with_a_key_is_compared_with(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    """And an insert of theirs that does nothing on conflict still does nothing."""
    statement = (
        "INSERT INTO synk.job (name, kind, args, idempotency_key) VALUES"
        " ('x', 'resize', %s, 'the key') ON CONFLICT DO NOTHING"
    )
    given = '{"width": 256, "path": "a.jpg", "more": {}}'
    assert connection.execute(statement, (given,)).rowcount == 1
    assert connection.execute(statement, ("{}",)).rowcount == 0
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute(statement.removesuffix(" ON CONFLICT DO NOTHING").encode(), ("{}",))

    job_id = client.insert("x", Resize("a.jpg"), KEYED)

    assert refused(lambda: client.insert("x", Resize("b.jpg"), KEYED)).job_id == job_id
    assert client.storage.counts() == {synk.JobState.AVAILABLE: 1}


def test_a_trigger_that_adds_to_the_arguments_leaves_a_repeat_the_same_job(
    client: synk.Client, connection: psycopg.Connection
) -> None:
    connection.execute(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.args := NEW.args || '{\"tenant\": 7}'; RETURN NEW; END $$;"
        "CREATE TRIGGER stamp BEFORE INSERT ON synk.job FOR EACH ROW EXECUTE FUNCTION stamp()"
    )

    assert client.insert("x", FIRST, KEYED) == client.insert("x", FIRST, KEYED)


def test_a_key_is_free_once_its_job_is_deleted(client: synk.Client) -> None:
    job_id = client.insert("x", FIRST, KEYED)
    client.delete(job_id)

    assert client.insert("x", Remove("a.jpg"), KEYED) != job_id
