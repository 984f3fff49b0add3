"""A storage of one's own: it has what the contract asks, and nothing of what people look with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import synk
from support.jobs import handlers
from support.model import ModelStorage
from support.supervising import ended, is_running, supervised, wait_until
from synk.storage import base, sql
from synk.storage.base import Storage
from synk.storage.inspection import Inspection


def methods(protocol: type) -> set[str]:
    return {name for name in vars(protocol) if name[0] != "_"}


def test_the_model_has_what_the_contract_asks_and_shows_nothing() -> None:
    own = set(dir(ModelStorage))

    assert methods(Storage) <= own
    assert methods(Inspection).isdisjoint(own)
    assert methods(Storage) | methods(Inspection) <= set(dir(synk.PostgresStorage))
    assert methods(Storage).isdisjoint(methods(Inspection))


ORIGINAL = {
    "ping", "get_job_available", "insert", "cancel", "retry", "delete", "update_job_state",
    "cleaner",
}  # fmt: skip


def test_each_method_has_a_statement_of_its_name_or_is_in_the_table_of_the_contract() -> None:
    contract = base.__doc__ or ""
    files = {file.stem for file in Path(sql.__file__).parent.glob("*.sql")}
    tabled = set(re.findall(r"^(\w+) +\S+.*\.sql|^(ping) ", contract, re.MULTILINE))

    assert {name or ping for name, ping in tabled} == ORIGINAL
    assert set(re.findall(r"(\w+)\.sql", contract)) <= files
    without_statement = {"announcements", "close"}
    assert methods(Storage) | methods(Inspection) <= files | ORIGINAL | without_statement


def test_a_supervisor_runs_jobs_of_a_storage_that_shows_nothing(tmp_path: Path) -> None:
    with supervised("", storage=ModelStorage()) as client:
        ids = client.insert_many([("x", handlers.Noop(n)) for n in range(200)])
        gate = tmp_path / "gate"
        slow = client.insert("x", handlers.Slow(str(gate)))
        rows = [ended(client, job_id) for job_id in ids]

        with pytest.raises(synk.ConfigurationError, match="ask where a job is"):
            client.stack(slow)
        gate.touch()
        rows.append(ended(client, slow))

    assert {row.state for row in rows} == {synk.JobState.COMPLETED}


def test_a_job_of_a_storage_of_ones_own_cannot_complete_in_its_own_transaction() -> None:
    with supervised("", storage=ModelStorage()) as client:
        args = handlers.Misbehave("ends_itself")
        row = ended(client, client.insert("x", args, synk.InsertOptions(max_retries=0)))

    assert row.cancel_reason is synk.CancelReason.FAILED
    assert "cannot complete a job of a storage that is not PostgreSQL" in row.errors[0].error


def test_a_job_of_a_storage_that_shows_nothing_is_cancelled_while_it_runs(tmp_path: Path) -> None:
    with supervised("", storage=ModelStorage()) as client:
        job_id = client.insert("x", handlers.Slow(str(tmp_path / "gate")))
        wait_until(lambda: is_running(client, job_id))
        assert client.cancel(job_id) is synk.Change.REQUESTED
        row = ended(client, job_id)

    assert (row.state, row.cancel_reason) == (
        synk.JobState.CANCELLED,
        synk.CancelReason.REQUESTED,
    )
