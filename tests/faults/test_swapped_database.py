"""P10: a database that is emptied, or put back to an earlier state, under a supervisor."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

import synk
from support.jobs import handlers
from support.supervising import ended, is_running, supervised, wait_until
from synk import JobState

TTL = timedelta(seconds=6)

SWAPS = {
    "all of it": "TRUNCATE synk.job, synk.client RESTART IDENTITY",
    "all but who is there": "TRUNCATE synk.job RESTART IDENTITY",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_p10_what_ran_before_says_nothing_of_a_new_job_with_the_same_id(
    dsn: str, connection: psycopg.Connection, tmp_path: Path, swap: str
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    with supervised(dsn, lease_ttl=TTL, processes=2) as client:
        before = client.insert("x", handlers.Once(str(log)))
        wait_until(lambda: is_running(client, before) and log.exists())
        worker = wait_until(lambda: busy(client))
        connection.execute(SWAPS[swap].encode())
        after = client.insert("x", handlers.Slow(str(gate)))
        assert after == before
        wait_until(lambda: is_running(client, after), what="the new job to begin")
        wait_until(lambda: not Path(f"/proc/{worker}").exists(), what="the old job to be killed")
        gate.touch()
        row = ended(client, after)
        name = str(client.id)

    assert (row.kind, row.state) == ("slow", JobState.COMPLETED)
    # A supervisor that still had the old job gives the new one back before it runs it.
    assert (row.attempt - row.uncounted, row.errors) == (1, [])
    assert row.attempted_by[-1] == name
    assert log.read_text().split() == ["1"]


def busy(client: synk.Client) -> int | None:
    return next((slot.pid for slot in client.running() if slot.job_id), None)
