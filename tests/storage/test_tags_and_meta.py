"""Tags and meta: what is the user's own in a job's row."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

import synk
from support.commands import run
from support.jobs import handlers
from support.supervising import ended, make_client, supervised
from synk.storage.sql import statement
from synk.testing.making import OWNER, claim, insert, register

if TYPE_CHECKING:
    import psycopg

    from synk.storage.base import Storage
    from synk.storage.postgres import PostgresStorage

META = {"trace": "00-ab", "nested": {"n": [1, None]}}
HARD = ["a b", 'quo"te', "back\\slash", "{brace}", "comma,", "NULL", "ü"]


def jobs_of(storage: PostgresStorage, *tags: str) -> list[int]:
    listed = storage.jobs(state=None, queue=None, kind=None, limit=50, tags=tags)
    return [row.id for row in listed]


def test_tags_and_meta_come_back_as_they_were_given(any_storage: Storage) -> None:
    one = insert(any_storage, tags=[*HARD, "ü"], meta=META)
    plain = insert(any_storage)

    first, second = any_storage.get([one, plain])

    assert (first.tags, first.meta) == (HARD, META)
    assert (second.tags, second.meta) == ([], {})


def test_a_claim_brings_them_and_a_plain_one_brings_no_history(any_storage: Storage) -> None:
    register(any_storage, OWNER)
    insert(any_storage, tags=["t"], meta=META)
    insert(any_storage)

    marked, plain = claim(any_storage, limit=2)

    job = synk.Job(marked, None, "me")
    assert (job.tags, job.meta) == (["t"], META)
    assert plain.history is None
    assert (synk.Job(plain, None, "me").tags, synk.Job(plain, None, "me").meta) == ([], {})


def test_some_of_many_have_them_and_all_keep_their_order(
    storage: PostgresStorage, connection: psycopg.Connection
) -> None:
    options = [
        synk.InsertOptions(tags=["a"]),
        None,
        synk.InsertOptions(meta=META, idempotency_key="k"),
        synk.InsertOptions(idempotency_key="l", queue="other"),
    ]
    with synk.Client(storage=storage) as client:
        specs = [("x", handlers.Noop(), *([] if each is None else [each])) for each in options]
        ids = client.insert_many(specs)
        again = client.insert_many(specs[2:])

    rows = connection.execute(
        "SELECT id, tags, meta, idempotency_key, queue FROM synk.job ORDER BY id"
    ).fetchall()
    assert rows == [
        (ids[0], ["a"], None, None, "default"),
        (ids[1], None, None, None, "default"),
        (ids[2], None, META, "k", "default"),
        (ids[3], None, None, "l", "other"),
    ]
    assert again == ids[2:]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("tags", "word", "list of strings"),
        ("tags", [""], "must not be empty"),
        ("tags", [1], "must be a string"),
        ("tags", ["x" * 128], "128 characters, at most 127"),
        ("tags", ["a\nb"], "control character"),
        ("tags", [str(n) for n in range(101)], "101 tags, at most 100"),
        ("tags", ["ü" * 120 + str(n) for n in range(90)], "bytes, at most"),
        ("meta", [1], "must be a dict"),
        ("meta", {"f": object()}, "is not JSON"),
        ("meta", {"f": "\0"}, "NUL"),
        ("meta", {"f": "x" * 40_000}, "at most 32768"),
    ],
)
def test_bad_ones_are_refused_by_field_and_value(field: str, value: Any, problem: str) -> None:
    with pytest.raises(synk.InvalidJob, match=problem) as caught:
        synk.InsertOptions(**{field: value})

    assert caught.value.field == field
    assert caught.value.value == value or caught.value.value in value


def test_as_many_tags_as_are_let_through_fit_into_the_table(storage: PostgresStorage) -> None:
    tags = [f"{n:03}" + "x" * 124 for n in range(100)]

    assert storage.get([insert(storage, tags=tags)])[0].tags == tags


def test_meta_that_only_the_table_finds_too_large_is_refused_there(
    storage: PostgresStorage,
) -> None:
    with pytest.raises(synk.InvalidJob, match="meta_is_a_small_object"):
        insert(storage, meta={"n": [1] * 15_000})


def test_lists_have_the_jobs_with_all_of_the_tags(storage: PostgresStorage) -> None:
    both = insert(storage, tags=["a", "b"])
    one = insert(storage, tags=["a"])
    insert(storage)
    storage.cancel(one)

    assert jobs_of(storage, "a") == [one, both]
    assert jobs_of(storage, "a", "b") == [both]
    assert jobs_of(storage, "c") == []
    for state in synk.JobState:
        listed = storage.jobs(state=state, queue=None, kind=None, limit=9, tags=["a"])
        expected = {"available": [both], "cancelled": [one]}.get(state, [])
        assert [row.id for row in listed] == expected


def test_the_command_line_filters_by_tag_and_shows_both(dsn: str) -> None:
    with make_client(dsn) as client:
        options = synk.InsertOptions(tags=["red", "blue"], meta={"customer": 7})
        job_id = client.insert("x", handlers.Noop(), options)
        client.insert("y", handlers.Noop())

    listed = json.loads(run("jobs", "--tag", "red", "--tag", "blue", "--json", dsn=dsn).stdout)
    one = json.loads(run("job", str(job_id), "--json", dsn=dsn).stdout)
    shown = run("job", str(job_id), dsn=dsn).stdout
    bad = run("jobs", "--tag", "", dsn=dsn)

    assert [(row["id"], row["tags"]) for row in listed] == [(job_id, ["red", "blue"])]
    assert (one["tags"], one["meta"]) == (["red", "blue"], {"customer": 7})
    assert "red, blue" in shown
    assert '{"customer": 7}' in shown
    assert bad.returncode == 2
    assert "--tag" in bad.stderr


def test_a_handler_has_them(dsn: str) -> None:
    with make_client(dsn) as client, supervised(dsn):
        options = synk.InsertOptions(tags=["t"], meta={"key": uuid.UUID(int=7)})
        job_id = client.insert("x", handlers.Marks(), options)
        row = ended(client, job_id)

    assert row.result == [["t"], {"key": str(uuid.UUID(int=7))}]


def test_plain_inserts_keep_their_statements(storage: PostgresStorage) -> None:
    statements = storage.statements
    plain = synk.InsertOptions(queue="q", idempotency_key="k")
    from synk.testing.making import new_job

    assert statements.insert(new_job(options=plain)).text == statement("insert")
    assert statements.insert_many([new_job()] * 2).text == statement("insert_many")
    assert statements.insert_many([new_job(options=plain)]).text == statement("insert_many_once")
    marked = new_job(options=synk.InsertOptions(tags=["t"]))
    assert statements.insert(marked).text == statement("insert_full")
    assert statements.insert_many([new_job(), marked]).text == statement("insert_full")
