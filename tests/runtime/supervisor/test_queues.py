"""Several queues of one supervisor."""

from __future__ import annotations

from pathlib import Path

import synk
from support.jobs import handlers
from support.supervising import ended, supervised
from synk import JobState

MANY = 2_000


def test_m11_a_job_now_and_then_does_not_wait_until_a_busy_queue_is_empty(
    dsn: str, tmp_path: Path
) -> None:
    queues = {"busy": synk.QueueConfig(), "quiet": synk.QueueConfig()}
    short = handlers.Write(str(tmp_path / "log"), sleep_s=0.002)
    with supervised(dsn, queues=queues) as client:
        for queue in queues:
            ended(client, client.insert("known", short, synk.InsertOptions(queue=queue)))
        busy = synk.InsertOptions(queue="busy")
        client.insert_many([("busy", short, busy)] * MANY)

        for args in (short, short, handlers.Noop(), handlers.Noop()):
            row = ended(client, client.insert("quiet", args, synk.InsertOptions(queue="quiet")))
            assert row.state is JobState.COMPLETED
        left = client.storage.counts("busy")

    assert left[JobState.AVAILABLE] > 0, "it waited for all of them"
