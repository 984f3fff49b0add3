from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

import synk
from synk.kinds import INSERT_OPTIONS
from synk.registry import Registry


@dataclass
class Report(synk.JobArgs, kind="report"):
    number: int = 0


@dataclass
class Mail(synk.JobArgs, kind="mail"):
    number: int = 0


@dataclass
class Plain(synk.JobArgs, kind="plain"):
    number: int = 0


@synk.worker(queue="slow", priority=synk.Priority.LOW, max_retries=1, tags=["night"])
def report(job: synk.Job[Report]) -> None:
    pass


class Mailer(synk.Worker[Mail]):
    queue = "mails"

    def work(self, job: synk.Job[Mail]) -> None:
        pass


WORKERS = [report, Mailer()]
WRONG = [
    ("queue", ""),
    ("queue", "x" * 128),
    ("queue", 7),
    ("priority", 0),
    ("priority", "HIGH"),
    ("max_retries", -1),
    ("max_retries", 1.5),
    ("max_retries", True),
    ("tags", "one text"),
    ("tags", 7),
    ("keep", dt.timedelta(0)),
    ("keep", 60),
]


@pytest.fixture
def client(dsn: str):
    # A producer: it runs nothing.
    with synk.Client(storage=synk.PostgresStorage(dsn), workers=WORKERS) as client:
        yield client


def stored(client: synk.Client, *ids: int) -> list[tuple[str, int, int]]:
    rows = client.storage.get(ids)
    return [(row.queue, row.priority, row.max_attempts) for row in rows]


def test_an_insert_has_what_the_worker_of_its_kind_says(client: synk.Client) -> None:
    ids = [client.insert("x", args) for args in (Report(), Mail(), Plain())]

    assert stored(client, *ids) == [("slow", 4, 2), ("mails", 3, 7), ("default", 3, 7)]


def test_what_an_insert_says_itself_goes_before_its_kind(client: synk.Client) -> None:
    some = synk.InsertOptions(max_retries=3)
    usual = synk.InsertOptions(queue="default", priority=synk.Priority.MEDIUM, max_retries=6)

    ids = [client.insert("x", Report(), options) for options in (some, usual)]

    assert stored(client, *ids) == [("slow", 4, 4), ("default", 3, 7)]


def test_one_object_of_options_leaves_each_kind_its_own(client: synk.Client) -> None:
    shared = synk.InsertOptions(max_retries=2)

    ids = client.insert_many([("x", args, shared) for args in (Report(), Mail(), Plain())] * 2)

    assert stored(client, *ids) == [("slow", 4, 3), ("mails", 3, 3), ("default", 3, 3)] * 2


def test_options_that_are_made_as_they_are_given_do_not_take_each_others_place(
    client: synk.Client,
) -> None:
    ids = client.insert_many(
        ("x", Report(n), synk.InsertOptions(max_retries=n)) for n in range(200)
    )

    assert [most for _, _, most in stored(client, *ids)] == list(range(1, 201))


def test_a_transaction_of_the_callers_has_the_same_defaults(client: synk.Client, dsn: str) -> None:
    with psycopg.connect(dsn) as connection:
        one = client.insert_tx(connection, "x", Report())
        (other,) = client.insert_many([("x", Mail())], connection=connection)

    assert stored(client, one, other) == [("slow", 4, 2), ("mails", 3, 7)]


def test_an_asynchronous_producer_has_the_same_defaults(client: synk.Client, dsn: str) -> None:
    async def insert() -> list[int]:
        storage = synk.PostgresStorage(dsn)
        async with (
            synk.AsyncClient(storage=storage, workers=WORKERS) as awaited,
            await psycopg.AsyncConnection.connect(dsn) as connection,
        ):
            return [
                await awaited.insert("x", Report()),
                await awaited.insert_tx(connection, "x", Report()),
                *await awaited.insert_many([("x", Mail())]),
            ]

    ids = asyncio.run(insert())

    assert stored(client, *ids) == [("slow", 4, 2), ("slow", 4, 2), ("mails", 3, 7)]


def test_a_client_that_does_not_know_the_worker_has_the_general_defaults(dsn: str) -> None:
    with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
        job_id = client.insert("x", Report())

        assert stored(client, job_id) == [("default", 3, 7)]


def test_tags_of_an_insert_take_the_place_of_those_of_its_kind(client: synk.Client) -> None:
    given = (None, [], ["day"])

    ids = client.insert_many([("x", Report(), synk.InsertOptions(tags=tags)) for tags in given])

    assert [row.tags for row in client.storage.get(ids)] == [["night"], [], ["day"]]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_what_no_insert_could_have_is_refused_where_it_is_defined(name: str, value: Any) -> None:
    definitions = (
        lambda: synk.worker(**{name: value})(report._function),
        lambda: type("Wrong", (synk.Worker,), {name: value}),
    )

    for define in definitions:
        with pytest.raises(synk.ConfigurationError, match=f"^{name}=") as caught:
            define()

        assert (caught.value.field, caught.value.value) == (name, value)


def test_a_worker_may_say_it_when_it_is_made() -> None:
    class Chosen(Mailer):
        def __init__(self, queue: str) -> None:
            self.queue = queue

    class Computed(Mailer):
        @property
        def queue(self) -> str:
            return "computed"

    for item, queue in ((Chosen("own"), "own"), (Computed(), "computed")):
        assert Registry([item]).defaults["mail"].queue == queue

    with pytest.raises(synk.ConfigurationError, match=r"^queue='': "):
        Registry([Chosen("")])


def with_job(job: Any) -> None:
    pass


def with_error(job: Any, error: Any) -> None:
    pass


def with_a_default(job: Any, base_s: int = 4) -> None:
    assert base_s == 4


def with_a_late_error(job: Any, error: Any = None) -> None:
    assert error is not None


@pytest.mark.parametrize("asked", [with_job, with_error, with_a_default, with_a_late_error])
def test_who_names_the_next_try_is_called_as_it_wants_to_be(asked: Any) -> None:
    class Method(Mailer):
        next_retry = staticmethod(asked)

    for item in (synk.worker(next_retry=asked)(report._function), Method()):
        (handler,) = Registry([item]).handlers.values()
        assert handler.next_retry is not None
        assert handler.next_retry(synk.Job(None, Mail(), "me"), ValueError()) is None


def without_any() -> None:
    pass


def with_three(job: Any, error: Any, more: Any) -> None:
    pass


def with_a_keyword(job: Any, *, error: Any) -> None:
    pass


@pytest.mark.parametrize("asked", [without_any, with_three, with_a_keyword])
def test_who_names_the_next_try_and_cannot_be_called_is_refused(asked: Any) -> None:
    class Method(Mailer):
        next_retry = staticmethod(asked)

    for define in (
        lambda: synk.worker(next_retry=asked)(report._function),
        lambda: Registry([Method()]),
    ):
        with pytest.raises(synk.ConfigurationError, match=r"must take \(job\) or") as caught:
            define()
        assert caught.value.field == "next_retry"


def test_an_attribute_of_a_function_is_no_option_of_its_worker() -> None:
    def handler(job: synk.Job[Plain]) -> None:
        pass

    handler.queue = "not meant for synk"  # type: ignore[attr-defined]

    assert Registry([synk.worker(handler)]).defaults == {}


@pytest.mark.parametrize("name", INSERT_OPTIONS)
def test_an_option_of_a_kind_is_refused_in_its_arguments_with_what_to_write(name: str) -> None:
    with pytest.raises(synk.InvalidJob, match=rf"or write @synk\.worker\({name}=\.\.\.\)"):
        type("Slow", (synk.JobArgs,), {}, kind="slow", **{name: "x"})


def test_an_option_that_there_is_not_is_refused() -> None:
    with pytest.raises(TypeError, match=r"no option line$"):
        synk.worker(line="slow")  # type: ignore[call-overload]
