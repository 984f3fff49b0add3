"""Jobs that use what lies in /dev/shm."""

from __future__ import annotations

import atexit
import multiprocessing
from typing import Any

from support.jobs import handlers
from support.jobs.acts import ActJob, deed, note
from support.jobs.observation import wait


@deed
def use_semaphores(job: ActJob) -> None:
    """Of those that have a name, and are left to the resource tracker where the worker dies."""
    locks: list[Any] = [multiprocessing.get_context("spawn").Lock() for _ in range(4)]
    note(job, f"semaphores {len(locks)}")
    if job.args.path:
        wait(job)


@deed
def use_joblib(job: ActJob) -> int:
    import joblib
    import numpy as np

    numbers = np.ones(1_000_000)
    sums: Any = joblib.Parallel(n_jobs=2)(joblib.delayed(np.sum)(numbers) for _ in range(2))
    total = sum(sums)
    note(job, f"total {total}")
    if job.args.path:
        wait(job)
    return int(total)


@deed
def leave_exit_function(job: ActJob) -> None:
    atexit.register(handlers.note, job.args.log, "exit function")
    atexit.register(print, "printed at the exit")


@deed
def use_forkserver(job: ActJob) -> None:
    """The server stays for the next pool of this process."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    child = context.Process(target=print)
    child.start()
    child.join()
    server: Any = forkserver
    note(job, f"server {server._forkserver._forkserver_pid}")
    if job.args.path:
        wait(job)
