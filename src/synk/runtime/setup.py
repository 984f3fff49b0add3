"""What all worker processes of a supervisor are told when they start."""

from __future__ import annotations

from typing import Any

import msgspec


class QueueSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker knows of a queue."""

    timeout_s: float
    nice: int = 0
    """Added to the nice value of the process while it runs a job of this queue."""
    cpus: tuple[int, ...] = ()
    """The CPUs that its jobs run on; empty: any."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told when it starts, whichever slot it will serve."""

    client_id: str
    host: str
    supervisor_pid: int
    modules: tuple[str, ...]
    """What to import before anything else."""
    payload: bytes
    """The workers and the hook, pickled by the supervisor: its own objects, for its own child."""
    prepare: dict[str, Any] = {}
    """What makes a fresh interpreter like the supervisor's: paths, and the user's script."""
    queues: dict[str, QueueSetup]
    schema: str | None = None
    """Where the jobs' table is, for `Job.complete_tx`."""
    no_new_privileges: bool = True
    rlimits: dict[str, int] = {}
