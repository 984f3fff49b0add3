"""How each peer is set up: for speed, as its own documentation recommends.

One place for all of it; the scripts beside this file read it. A peer may be set up otherwise for
jobs that compute than for jobs that do nothing.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Broker(Enum):
    POSTGRES = "PostgreSQL"
    REDIS = "Redis"
    NONE = "none"


CPUS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Setup:
    script: str
    """The program beside this file that drives it."""
    package: str
    broker: Broker
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    computing: dict[str, Any] = field(default_factory=dict[str, Any])
    """What is different for jobs that compute. `processes` is how often the worker is started;
    those that run jobs in one event loop use more CPUs only with more of them."""
    why: str = ""
    """Where its authors recommend that, or why it is so here."""
    wants_url: bool = False
    """Whether it takes a database as a URL only."""

    def settings_for(self, task: str) -> dict[str, Any]:
        return {**self.settings, **(self.computing if task == "burn" else {})}


PEERS: dict[str, Setup] = {
    "PgQueuer": Setup(
        "on_pgqueuer",
        "pgqueuer",
        Broker.POSTGRES,
        {"processes": 1, "batch_size": 200, "driver": "asyncpg", "loop": "uvloop"},
        {"processes": CPUS, "batch_size": 10},
        "docs: larger batches for throughput, the default of 10 where jobs are long",
        wants_url=True,
    ),
    "awa": Setup(
        "on_awa",
        "awa-pg",
        Broker.POSTGRES,
        {"processes": 1, "max_workers": 200},
        {"processes": CPUS, "max_workers": 4},
        "docs: COPY to enqueue, workers of a queue by what its jobs do",
        wants_url=True,
    ),
    "Oban": Setup(
        "on_oban",
        "oban",
        Broker.POSTGRES,
        {"processes": 1, "concurrency": 50},
        {"processes": CPUS, "concurrency": 2},
        "docs: a limit for each queue; more processes for more CPUs",
    ),
    "Procrastinate": Setup(
        "on_procrastinate",
        "procrastinate",
        Broker.POSTGRES,
        {"processes": 1, "concurrency": 50},
        {"processes": CPUS, "concurrency": 2},
        "docs: asynchronous tasks and concurrency for short jobs, threads for those that compute",
    ),
    "Chancy": Setup(
        "on_chancy",
        "chancy",
        Broker.POSTGRES,
        {
            "concurrency": 8,
            "polling_interval": 1,
            "eager_polling": True,
            "maximum_jobs_per_worker": 1_000_000,
        },
        {"concurrency": CPUS},
        "docs: the process executor for jobs that compute, eager polling for latency",
    ),
    "python-pq": Setup(
        "on_pq",
        "python-pq",
        Broker.POSTGRES,
        {"processes": 1, "concurrency": 2 * CPUS, "poll_interval": 0.001},
        {"concurrency": CPUS},
        "docs: a fork for each task, as many at a time as `concurrency`; it polls where it is idle",
        wants_url=True,
    ),
    "Huey": Setup(
        "on_huey",
        "huey",
        Broker.REDIS,
        {"options": ["--worker-type", "process", "--no-periodic", "--delay", "0.001"]},
        why="docs: processes for jobs that compute; no scheduler where there is nothing periodic",
    ),
    "Dramatiq": Setup(
        "on_dramatiq",
        "dramatiq",
        Broker.REDIS,
        {"threads": 4},
        {"threads": 1},
        "docs: a process for each CPU, few threads where jobs compute",
    ),
    "Celery": Setup(
        "on_celery",
        "celery",
        Broker.REDIS,
        {
            "prefetch_multiplier": 16,
            "options": ["--without-gossip", "--without-mingle", "--without-heartbeat"],
        },
        {"prefetch_multiplier": 1},
        "docs: prefetch many short tasks and one long one; results are ignored",
    ),
    "RQ": Setup(
        "on_rq",
        "rq",
        Broker.REDIS,
        {"options": ["--logging-level", "WARNING"]},
        why="docs: a pool of workers; each forks for each job",
    ),
}
