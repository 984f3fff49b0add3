from __future__ import annotations

import datetime as dt
from typing import Any

import psycopg
import pytest

import synk
from support.jobs import handlers

QUEUES = {"default": synk.QueueConfig()}


@pytest.fixture
def client(dsn: str):
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        yield client


@pytest.mark.parametrize(
    ("name", "args", "field"),
    [
        ("", handlers.Noop(), "name"),
        ("n" * 128, handlers.Noop(), "name"),
        ("a\x00b", handlers.Noop(), "name"),
        (None, handlers.Noop(), "name"),
        ("x", {"plain": "dict"}, "args"),
        ("x", None, "args"),
    ],
)
def test_bad_input_is_refused_before_anything_is_stored(
    client: synk.Client, name: Any, args: Any, field: str
) -> None:
    with pytest.raises(synk.InvalidJob) as caught:
        client.insert(name, args)

    assert caught.value.field == field
    assert client.storage.counts() == {}


def test_one_bad_job_of_many_stores_none(client: synk.Client) -> None:
    with pytest.raises(synk.InvalidJob, match="name="):
        client.insert_many([("ok", handlers.Noop()), ("", handlers.Noop())])

    assert client.storage.counts() == {}


@pytest.mark.parametrize("name", [None, "", 7, "x" * 128])
def test_what_can_be_no_name_is_refused_wherever_it_stands(client: synk.Client, name: Any) -> None:
    for jobs in ([name], ["x", name], ["x", "x", name, name]):
        with pytest.raises(synk.InvalidJob, match="name="):
            client.insert_many([(each, handlers.Noop()) for each in jobs])

    assert client.storage.counts() == {}


def test_an_unknown_dependency_of_one_of_many_stores_none(client: synk.Client) -> None:
    with pytest.raises(synk.UnknownDependency, match="depends_on=999"):
        client.insert_many(
            [
                ("ok", handlers.Noop()),
                ("bad", handlers.Noop(), synk.InsertOptions(depends_on=(999,))),
            ]
        )

    assert client.storage.counts() == {}


def test_many_jobs_get_their_ids_in_order(client: synk.Client) -> None:
    ids = client.insert_many([(f"job {n}", handlers.Noop(n)) for n in range(12_000)])

    assert ids == sorted(ids)
    row = client.get(ids[7_777])
    assert row is not None
    assert (row.name, row.args) == ("job 7777", {"n": 7777})


def test_no_jobs_are_no_work(client: synk.Client) -> None:
    assert client.insert_many([]) == []


def test_max_retries_counts_the_tries_after_the_first(client: synk.Client) -> None:
    default = client.get(client.insert("x", handlers.Noop()))
    once = client.get(client.insert("x", handlers.Noop(), synk.InsertOptions(max_retries=0)))

    assert default is not None
    assert once is not None
    assert (default.max_attempts, once.max_attempts) == (7, 1)


def test_a_job_in_the_callers_transaction_goes_with_it(client: synk.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        client.insert_tx(connection, "kept", handlers.Noop())
        connection.commit()
        client.insert_tx(connection, "dropped", handlers.Noop())
        connection.rollback()

    rows = client.storage.jobs(state=None, queue=None, kind=None, limit=10)
    assert [row.name for row in rows] == ["kept"]


def test_a_transaction_must_be_a_connection(client: synk.Client) -> None:
    with pytest.raises(synk.ConfigurationError, match="connection="):
        client.insert_tx("postgresql://somewhere", "x", handlers.Noop())


def test_a_transaction_must_be_there(client: synk.Client) -> None:
    with pytest.raises(synk.ConfigurationError, match=r"connection=None.*`insert` needs none"):
        client.insert_tx(None, "x", handlers.Noop())

    assert client.insert_many([("x", handlers.Noop())], connection=None)


def test_a_closed_connection_is_named(client: synk.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        pass

    with pytest.raises(synk.ConfigurationError, match="is closed"):
        client.insert_tx(connection, "x", handlers.Noop())


def test_all_options_arrive(client: synk.Client) -> None:
    first = client.insert("first", handlers.Noop())
    when = dt.datetime(2099, 1, 1, tzinfo=dt.timezone.utc)

    row = client.get(
        client.insert(
            "second",
            handlers.Typed(3),
            synk.InsertOptions(
                scheduled_at=when,
                priority=synk.Priority.LOW,
                queue="other",
                max_retries=2,
                depends_on=(first,),
            ),
        )
    )

    assert row is not None
    assert (row.name, row.kind, row.queue, row.priority) == ("second", "typed", "other", 4)
    assert (row.scheduled_at, row.max_attempts, row.depends_on) == (when, 3, [first])
    assert row.state is synk.JobState.PENDING


@pytest.mark.parametrize("job_id", [0, -1, "1", 2**63, True])
def test_an_id_that_cannot_be_one_is_refused(client: synk.Client, job_id: Any) -> None:
    with pytest.raises(synk.InvalidJob, match="job_id="):
        client.cancel(job_id)


def test_each_verb_says_what_it_did(client: synk.Client) -> None:
    job_id = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))

    assert client.retry(job_id) is synk.Change.REFUSED
    assert client.ready(job_id) is synk.Change.APPLIED
    assert client.ready(job_id) is synk.Change.REFUSED
    assert client.cancel(job_id) is synk.Change.APPLIED
    assert client.cancel(job_id) is synk.Change.REFUSED
    assert client.retry(job_id) is synk.Change.APPLIED
    assert client.delete(job_id) is synk.Change.APPLIED
    assert client.delete(job_id) is synk.Change.GONE
    assert client.get(job_id) is None


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"queues": QUEUES}, "queues"),
        ({"queues": ["default"], "workers": [handlers.noop]}, "queues"),
        ({"queues": "default", "workers": [handlers.noop]}, "queues"),
        ({"queues": {"": synk.QueueConfig()}, "workers": [handlers.noop]}, "queues"),
        ({"queues": {"q": 5}, "workers": [handlers.noop]}, "queues['q']"),
        ({"queues": QUEUES, "workers": ["noop"]}, "workers"),
        ({"queues": QUEUES, "workers": [handlers.noop], "processes": 0}, "processes"),
        ({"cleaner": 30}, "cleaner"),
        ({"drain_timeout": 30}, "drain_timeout"),
    ],
)
def test_a_wrong_client_setting_names_its_field(options: Any, field: str) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        synk.Client(storage=synk.PostgresStorage("postgresql://localhost/x"), **options)

    assert caught.value.field == field


def test_something_that_is_no_storage_is_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match="storage="):
        synk.Client(storage="postgresql://localhost/x")  # type: ignore[arg-type]


def test_each_client_has_an_id_of_its_own() -> None:
    storage = synk.PostgresStorage("postgresql://localhost/x")

    assert synk.Client(storage=storage).id != synk.Client(storage=storage).id
