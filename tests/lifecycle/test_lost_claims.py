"""What a supervisor does about a claim, or an acknowledgement, whose answer never comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.jobs import tasks
from support.proxy import Place, Proxy
from support.supervising import ended, make_client, supervised
from synk import JobState


@pytest.mark.parametrize("at", ["question", "sent", "answer"])
def test_s9_a_claim_that_is_lost_on_its_way_is_given_back_uncharged(
    dsn: str, tmp_path: Path, at: Place
) -> None:
    log = tmp_path / "log"
    with Proxy(dsn) as proxy, make_client(dsn, workers=tasks.WORKERS) as direct:
        ids = direct.insert_many([("x", tasks.Task(log=str(log), text=str(n))) for n in range(5)])
        trap = proxy.trap("claim", at=at)
        with supervised(proxy.dsn, workers=tasks.WORKERS):
            trap.wait()
            taken = [row for row in direct.storage.get(ids) if row.state is JobState.RUNNING]
            trap.cut()
            rows = [ended(direct, job_id) for job_id in ids]

    assert at == "sent" or bool(taken) == (at == "answer")
    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert all(row.attempt - row.uncounted == 1 for row in rows)
    assert sorted(tasks.notes(log, "begun")) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("at", ["question", "sent", "answer"])
def test_s9_an_acknowledgement_that_is_lost_on_its_way_is_sent_again(
    dsn: str, tmp_path: Path, at: Place
) -> None:
    log = tmp_path / "log"
    with Proxy(dsn) as proxy, make_client(dsn, workers=tasks.WORKERS) as direct:
        trap = proxy.trap("ack", at=at)
        with supervised(proxy.dsn, workers=tasks.WORKERS):
            job_id = direct.insert("x", tasks.Task(log=str(log)))
            trap.wait()
            trap.cut()
            row = ended(direct, job_id)

    assert (row.state, row.attempt) == (JobState.COMPLETED, 1)
    assert tasks.notes(log, "begun") == ["x"]


def test_s9_a_claim_that_is_lost_during_the_shutdown_is_given_back_too(
    dsn: str, tmp_path: Path
) -> None:
    with Proxy(dsn) as proxy, make_client(dsn, workers=tasks.WORKERS) as direct:
        job_id = direct.insert("x", tasks.Task(log=str(tmp_path / "log")))
        trap = proxy.trap("claim", at="answer")
        with supervised(proxy.dsn, workers=tasks.WORKERS) as client:
            trap.wait()
            client.shutdown()
            trap.cut()

        row = direct.get(job_id)

    assert row is not None
    assert (row.state, row.attempt, row.uncounted) == (JobState.AVAILABLE, 1, 1)
    assert not (tmp_path / "log").exists()
