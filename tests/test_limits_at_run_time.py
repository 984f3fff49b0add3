"""Limits that are set while jobs run, and what can be seen of them."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

import synk
from support.jobs import bounded
from support.jobs.bounded import BOUND, Bounded
from support.supervising import supervised, wait_until
from synk.limit import Cap, Limit
from synk.limit_steps import key_of
from synk.limit_words import LimitWords
from synk.setting import Setting
from synk.testing.limiting import claim_keyed, insert_for
from synk.testing.making import OWNER, acknowledge

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def client(storage: synk.PostgresStorage) -> synk.Client:
    return synk.Client(storage=storage)


def caps_of(client: synk.Client) -> dict[str, Cap]:
    rows = client.storage.settings().rows
    return LimitWords(rows).caps({"tenant": Cap(4, (100, MINUTE))})


def test_what_is_set_takes_the_place_of_what_the_code_says(client: synk.Client) -> None:
    client.limits.set("tenant", running=8)

    assert caps_of(client) == {"tenant": Cap(8, (100, MINUTE))}


def test_a_key_of_its_own_keeps_what_is_not_set_for_it(client: synk.Client) -> None:
    client.limits.set("tenant", running=2, key="acme")
    client.limits.set("tenant", rate=(5, MINUTE))

    assert caps_of(client) == {
        "tenant": Cap(4, (5, MINUTE)),
        "tenant:acme": Cap(2, (5, MINUTE)),
    }


def test_none_lifts_a_limit_and_unset_brings_it_back(client: synk.Client) -> None:
    client.limits.set("tenant", running=None, rate=None)
    assert caps_of(client) == {"tenant": Cap(None, None)}

    client.limits.unset("tenant")
    assert caps_of(client) == {"tenant": Cap(4, (100, MINUTE))}


def test_what_was_set_for_a_key_is_unset_by_the_key(client: synk.Client) -> None:
    client.limits.set("tenant", running=1, key=7)
    client.limits.unset("tenant")
    assert caps_of(client)["tenant:7"].running == 1

    client.limits.unset("tenant", key=7)

    assert "tenant:7" not in caps_of(client)


def test_settings_that_nobody_can_understand_are_passed_over() -> None:
    rows = [
        Setting("limit:tenant", "running", {"value": 0}),
        Setting("limit:tenant", "rate", {"value": [1]}),
        Setting("limit:tenant", "rate", {}),
        Setting("limit:a b", "declared", {"key": "args.x", "running": 1, "rate": None}),
        Setting("limit:by hand", "running", 3),
        Setting("queue:tenant", "running", 9),
    ]

    assert LimitWords(rows).caps({}) == {"by hand": Cap(3)}


@pytest.mark.parametrize(
    ("given", "field_name"),
    [
        ({"running": 0}, "limit.running"),
        ({"rate": (5, 60)}, "limit.rate"),
        ({"running": 1, "name": "a:b"}, "limit.name"),
        ({"running": 1, "key": b"x"}, "key"),
        ({"running": 1, "key": "a\x00"}, "key"),
        ({}, "limit"),
    ],
)
def test_what_cannot_be_set_is_refused(
    client: synk.Client, given: dict[str, object], field_name: str
) -> None:
    with pytest.raises(synk.ConfigurationError) as refused:
        client.limits.set(**{"name": "tenant", **given})

    assert refused.value.field == field_name


@pytest.mark.parametrize(
    "value", ["acme", "a:b", "", "ü" * 63, "x" * 64, "日" * 200, 5, 1.5, True, "true"]
)
def test_the_table_makes_the_same_key_of_a_value(
    connection: psycopg.Connection, value: object
) -> None:
    row = connection.execute(
        "SELECT synk.limit_key('tenant', %s::jsonb #>> '{}')", (json.dumps(value),)
    ).fetchone()

    assert row is not None
    assert row == (key_of("tenant", value),)  # pyright: ignore[reportArgumentType]
    assert len(row[0]) <= 127


def test_a_value_that_is_not_there_has_the_limits_name_for_a_key(
    connection: psycopg.Connection,
) -> None:
    assert connection.execute("SELECT synk.limit_key('tenant', NULL)").fetchone() == ("tenant",)


def test_limits_are_listed_with_their_keys(client: synk.Client) -> None:
    storage: synk.PostgresStorage = client.storage
    insert_for(storage, *"aaab")
    insert_for(storage, "x", "y", limit=Limit("api", rate=(10, MINUTE)))
    claim_keyed(
        storage, 2, caps={"tenant": Cap(running=1), "api": Cap(rate=(10, MINUTE))}, after={3: "api"}
    )
    claim_keyed(storage, 1, caps={"api": Cap(rate=(10, MINUTE))})
    client.limits.set("tenant", running=1)
    client.limits.set("tenant", running=5, key="b")

    api, tenant = client.limits.list()

    assert (api.name, api.cap, api.keys[0].begun_in(MINUTE)) == ("api", Cap(), 1)
    assert (tenant.name, tenant.cap, tenant.caps) == ("tenant", Cap(1), {"tenant:b": Cap(5)})
    assert [(key.key, key.waiting, key.permits) for key in tenant.keys] == [
        ("tenant:a", 2, 1),
        ("tenant:b", 0, 1),
    ]
    assert len(tenant.keys[0].owners) == 1
    assert not tenant.is_cut


def test_a_list_counts_up_to_a_number(client: synk.Client) -> None:
    storage: synk.PostgresStorage = client.storage
    insert_for(storage, *["a"] * 1001)
    insert_for(storage, *[f"t{number:03}" for number in range(600)])

    (tenant,) = client.limits.list()

    assert (tenant.keys[0].waiting, tenant.keys[0].is_more) == (1000, True)
    assert tenant.is_cut


def test_an_asynchronous_client_has_the_same_verbs(dsn: str) -> None:
    async def use() -> list[object]:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            await client.limits.set("tenant", running=3)
            (found,) = await client.limits.list()
            await client.limits.unset("tenant")
            return [found.cap, await client.limits.list()]

    assert asyncio.run(use()) == [Cap(3), []]


def test_a_client_gives_its_jobs_the_keys_of_their_limits(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    client = synk.Client(storage=storage, workers=bounded.WORKERS)
    args = Bounded("acme", "/dev/null", "/dev/null")
    ids = [client.insert("one", args), *client.insert_many([("many", args), ("many", args)])]
    with psycopg.connect(dsn) as connection:
        ids.append(client.insert_tx(connection, "tx", args))

    async def insert() -> int:
        async with synk.AsyncClient(storage=storage, workers=bounded.WORKERS) as awaited:
            return await awaited.insert("awaited", args)

    ids.append(asyncio.run(insert()))
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT id, limit_key FROM synk.job").fetchall()
    client.close()

    assert sorted(rows) == [(job_id, "bound:acme") for job_id in ids]


def test_a_queue_limits_what_has_no_limit_of_its_own(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    workers = [*bounded.WORKERS, plain]
    queues = {"api": synk.QueueConfig(limit=Limit("api", running=3))}
    client = synk.Client(storage=storage, workers=workers, queues=queues)

    client.insert("a", Plain(), synk.InsertOptions(queue="api"))
    client.insert("b", Bounded("acme", "l", "g"), synk.InsertOptions(queue="api"))
    client.insert("c", Plain())
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT name, limit_key FROM synk.job ORDER BY 1").fetchall()
    client.close()

    assert rows == [("a", "api"), ("b", "bound:acme"), ("c", None)]


@dataclass
class Plain(synk.JobArgs, kind="without a limit"):
    pass


@synk.worker
def plain(job: synk.Job[Plain]) -> None:
    pass


def test_limits_of_one_name_that_disagree_are_refused_by_the_client(dsn: str) -> None:
    queues = {"api": synk.QueueConfig(limit=Limit("bound", running=3))}

    with pytest.raises(synk.ConfigurationError, match="says something else"):
        synk.Client(storage=synk.PostgresStorage(dsn), workers=bounded.WORKERS, queues=queues)


def test_a_limit_that_is_set_holds_in_a_supervisor_that_runs(dsn: str, tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    gate.touch()

    def begun() -> Counter[str]:
        return Counter(log.read_text().split() if log.exists() else [])

    with supervised(dsn, workers=bounded.WORKERS, processes=4) as client:
        client.insert_many([("x", Bounded("acme", str(log), str(gate)))] * 3)
        wait_until(lambda: begun()["acme"] == 1)
        client.insert("y", Bounded("other", str(log), str(gate)))
        wait_until(lambda: begun()["other"] == 1)
        assert begun()["acme"] == 1

        client.limits.set("bound", running=2, key="acme")

        wait_until(lambda: begun()["acme"] == 2)
        (status,) = client.limits.list()
        assert (status.declared, status.cap_of("bound:acme").running) == (BOUND, 2)
        assert [(key.key, key.permits) for key in status.keys] == [
            ("bound:acme", 2),
            ("bound:other", 1),
        ]
        gate.unlink()
        wait_until(lambda: begun()["acme"] == 3)


def test_who_completes_leaves_no_trace_in_a_list(client: synk.Client) -> None:
    storage: synk.PostgresStorage = client.storage
    insert_for(storage, "a")
    claimed = claim_keyed(storage, caps={"tenant": Cap(running=1)})
    acknowledge(storage, claimed.jobs[0])
    storage.release_permits(OWNER, claimed.permits)

    assert client.limits.list() == []
