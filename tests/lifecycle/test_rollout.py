"""A fleet that is upgraded while it works: new code first, then the schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import synk
from support.jobs import handlers
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    supervised,
    wait_until,
)
from support.upgrades import BEFORE, at_version, later_code
from synk import CancelReason, JobState

TTL = timedelta(seconds=6)
SHORT = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 1}"


@pytest.fixture(autouse=True)
def later() -> Iterator[list[str]]:
    """The names of migrations that this process has and others have not: theirs is the old code."""
    with later_code() as names:
        yield names


def test_new_code_works_on_the_schema_of_the_version_before(dsn: str) -> None:
    once = synk.InsertOptions(max_retries=0)
    with supervised(dsn) as client:
        first = client.insert("typed", handlers.Typed(2))
        after = client.insert("after", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
        twice = client.insert("twice", handlers.Misbehave("second_attempt"))
        failed = client.insert("bad", handlers.Misbehave("raise_group"), once)
        long = client.insert("long", handlers.Misbehave("long_sleep"))
        wait_until(lambda: is_running(client, long))
        client.cancel(long)
        rows = [ended(client, job_id) for job_id in (first, after, twice, failed, long)]

    assert [(row.state, row.attempt) for row in rows[:3]] == [
        (JobState.COMPLETED, 1),
        (JobState.COMPLETED, 1),
        (JobState.COMPLETED, 2),
    ]
    reasons = [row.cancel_reason for row in rows[3:]]
    assert reasons == [CancelReason.FAILED, CancelReason.REQUESTED]


def test_a_fleet_is_upgraded_without_a_stop_and_loses_no_job(
    dsn: str, tmp_path: Path, later: list[str]
) -> None:
    gate = tmp_path / "gate"
    with (
        SupervisorProcess(dsn, SHORT) as old,
        supervised(dsn, lease_ttl=TTL, processes=1) as new,
    ):
        ids = [new.insert("x", handlers.Slow(str(gate))) for _ in range(2)]
        wait_until(lambda: all(is_running(new, job_id) for job_id in ids), what="one at each")
        assert new.storage.migrate() == later
        gate.touch()
        rows = [ended(new, job_id) for job_id in ids]
        # It drains and ends by itself.
        code, _, err = old.wait()
        last = ended(new, new.insert("last", handlers.Noop()))
        name = str(new.id)

    assert {(row.state, row.attempt) for row in rows} == {(JobState.COMPLETED, 1)}
    assert len({row.attempted_by[0] for row in rows}) == 2
    assert (code, "start a newer synk" in err) == (1, True)
    assert last.attempted_by == [name]


def test_old_code_does_not_start_on_a_newer_schema(dsn: str, later: list[str]) -> None:
    at_version(dsn, BEFORE + len(later))
    with SupervisorProcess(dsn, SHORT) as old:
        code, _, err = old.wait()

    assert (code, "upgrade synk" in err) == (1, True)
