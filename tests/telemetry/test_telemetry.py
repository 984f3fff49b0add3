"""What a program hears of its supervisor: facts, records of its log, and no more than once."""

from __future__ import annotations

import logging
import string
from typing import Any

import psycopg_pool
import pytest

import synk
from support.jobs import handlers
from support.supervising import ended, supervised, wait_until
from synk import telemetry
from synk.storage import pool_log


def failing(client: synk.Client, **options: Any) -> int:
    return client.insert("x", handlers.Misbehave("raise_chain"), synk.InsertOptions(**options))


def records_of(caplog: pytest.LogCaptureFixture, job_id: int) -> list[logging.LogRecord]:
    return [each for each in caplog.records if getattr(each, "job_id", None) == job_id]


def test_a_final_failure_is_an_error_and_a_retry_a_warning(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with supervised(dsn, processes=1) as client:
        final, retried = failing(client, max_retries=0), failing(client)
        wait_until(lambda: records_of(caplog, final) and records_of(caplog, retried))

    (error,), (warning,) = records_of(caplog, final), records_of(caplog, retried)
    assert (error.levelname, warning.levelname) == ("ERROR", "WARNING")
    assert "now cancelled (failed)" in error.getMessage()
    assert "now scheduled:" in warning.getMessage()
    names = ("kind", "queue", "attempt", "max_attempts", "cause", "state", "cancel_reason")
    assert [getattr(error, name) for name in names] == [
        *("misbehave", "default", 1, 1, "exception", "cancelled", "failed")
    ]
    assert [getattr(warning, name) for name in names] == [
        *("misbehave", "default", 1, 7, "exception", "scheduled", None)
    ]


def test_a_record_factory_that_has_a_name_of_ours_loses_no_line(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    make = logging.getLogRecordFactory()

    def own(*args: object, **fields: object) -> logging.LogRecord:
        record = make(*args, **fields)
        record.queue = "of the program"
        return record

    logging.setLogRecordFactory(own)
    try:
        with supervised(dsn, processes=1) as client:
            job_id = failing(client, max_retries=0)
            wait_until(lambda: f"job {job_id} " in caplog.text)
    finally:
        logging.setLogRecordFactory(make)


def test_every_success_is_a_fact_for_who_subscribes(dsn: str) -> None:
    heard: list[telemetry.Fact] = []
    with supervised(dsn, processes=1) as client:
        client.telemetry.subscribe(heard.append)
        ids = client.insert_many([("plain", handlers.Noop()), ("typed", handlers.Typed(1))])
        for job_id in ids:
            ended(client, job_id)

    told = [fact for fact in heard if isinstance(fact, synk.telemetry.AttemptSucceeded)]
    assert sorted(str(fact.fields["job_id"]) for fact in told) == sorted(map(str, ids))
    assert all(fact.ended.outcome.duration_us > 0 for fact in told)


def test_an_outage_is_told_by_synk_alone_and_by_the_programs_own_pool(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each in its own words, and not twice."""
    nowhere = "postgresql://u@127.0.0.1:9/d?connect_timeout=1"
    storage = synk.PostgresStorage(nowhere)
    own = psycopg_pool.ConnectionPool(nowhere, min_size=1, open=False, reconnect_timeout=0.1)

    with pytest.raises(synk.StorageUnavailable):
        storage.ping()
    pool_log.be_silent_about_own()
    mine = psycopg_pool.ConnectionPool(nowhere, min_size=1, open=False, name=pool_log.POOL)
    for pool in (mine, own):
        pool.open()
    wait_until(lambda: f"error connecting in {own.name!r}" in caplog.text)
    for pool in (mine, own):
        pool.close()

    assert pool_log.POOL not in caplog.text


def test_the_line_of_a_fact_names_nothing_but_its_own_fields() -> None:
    names = [each for each in vars(telemetry).values() if isinstance(each, type)]
    facts = [each for each in names if issubclass(each, telemetry.Fact)]
    facts.remove(telemetry.Fact)
    kinds = [each for each in facts if "line" in vars(each)]

    for kind in kinds:
        named = {name for _, name, _, _ in string.Formatter().parse(kind.line) if name}
        assert named <= set(kind.__annotations__), kind
    assert kinds
    assert all("__str__" in vars(each) for each in facts if each not in kinds)
