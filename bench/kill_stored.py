"""Kills of which everything goes through PostgreSQL."""

from __future__ import annotations

import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import synk
from kill_jobs import PRELOADED, TIMEOUTS_S, Clock, Misbehave, Misbehaver, clock
from server import embedded_server, fresh_schema
from watching import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable


def stored_kills(count: int, spinning: int) -> list[float]:
    """Milliseconds from a timeout to the next job's first line, everything through PostgreSQL."""
    with embedded_server() as dsn:
        fresh_schema(dsn)
        client = synk.Client(
            storage=synk.PostgresStorage(dsn),
            queues={"default": synk.QueueConfig()},
            workers=[Misbehaver(), clock],
            logger=silent(),
            processes=spinning + 1,
            preload=PRELOADED,
        )
        thread = threading.Thread(target=client.start)
        thread.start()
        try:
            for job_id in client.insert_many([("busy", Misbehave("spin"))] * spinning):
                wait_for(client, job_id, lambda row: row.state is synk.JobState.RUNNING)
            return [stored_kill(client) for _ in range(count)]
        finally:
            client.shutdown(timedelta(0))
            thread.join()
            client.close()


def stored_kill(client: synk.Client) -> float:
    once = synk.InsertOptions(max_retries=0)
    late = client.insert("late", Misbehave("spin", TIMEOUTS_S["spin"]), once)
    following = client.insert("next", Clock())
    began = wait_for(client, following, lambda row: row.state.is_final).result
    over = wait_for(client, late, lambda row: row.state.is_final).checkpoint
    if not isinstance(began, float) or not isinstance(over, float):
        raise SystemExit(f"not a timeout and then a success: {over!r}, {began!r}")
    return (began - over) * 1000


def wait_for(client: synk.Client, job_id: int, fact: Callable[[synk.JobRow], bool]) -> synk.JobRow:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        row = client.get(job_id)
        if row is not None and fact(row):
            return row
        time.sleep(0.02)
    raise SystemExit(f"waited {PATIENCE_S:g} s for job {job_id}")


def silent() -> logging.Logger:
    """A logger for failures that are wanted."""
    logger = logging.getLogger("bench")
    logger.disabled = True
    return logger
