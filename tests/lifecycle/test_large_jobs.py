"""Jobs with large arguments: no supervisor dies of what it holds of them."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from support.supervising import SupervisorProcess, wait_until

PEAK_MIB = 200
"""Of a supervisor: some 40 MiB of its own, what it may hold, what it reads and writes at a time."""


def peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def test_a_supervisor_does_not_grow_by_all_the_large_jobs_that_wait(
    dsn: str, connection: psycopg.Connection
) -> None:
    """Small ones first, by which it learns to claim a thousand at a time."""
    connection.execute(
        "INSERT INTO synk.job (kind, name, priority, args)"
        " SELECT 'noop', 'small', 2, '{}' FROM generate_series(1, 1500)"
    )
    connection.execute(
        "INSERT INTO synk.job (kind, name, args)"
        " SELECT 'noop', 'large', jsonb_build_object('text', repeat('arguments ', 100000))"
        " FROM generate_series(1, 250)"
    )

    with SupervisorProcess(dsn) as supervisor:

        def is_drained() -> bool:
            row = connection.execute(
                "SELECT count(*) FROM synk.job WHERE state <> 'completed'"
            ).fetchone()
            return row == (0,)

        wait_until(is_drained, what="the end of all jobs")
        assert peak_mib(supervisor.process.pid) < PEAK_MIB
