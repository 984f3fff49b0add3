"""Jobs that use memory which is not theirs alone, or hide what is."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import time
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from support.jobs.acts import ActJob, deed, note
from support.jobs.observation import wait

INHERITED = (
    b""
    if not os.environ.get("SYNK_TEST_MODEL_MB")
    else b"m" * (int(os.environ["SYNK_TEST_MODEL_MB"]) << 20)
)
"""A model that a module loads when it is imported: all workers have it, and none took it."""


def touched(buffer: Any) -> int:
    """Looks at each page."""
    return sum(buffer[place] for place in range(0, len(buffer), mmap.PAGESIZE))


def written(buffer: Any) -> None:
    for place in range(0, len(buffer), mmap.PAGESIZE):
        buffer[place] = 1


@deed
def look_at_mapped_file(job: ActJob) -> int:
    with Path(job.args.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        touched(mapped)
        wait_for_looks(job)
        return len(mapped)


@deed
def write_to_mapped_file(job: ActJob) -> int:
    with Path(job.args.path).open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
        written(mapped)
        wait_for_looks(job)
        return len(mapped)


@deed
def look_at_others_shared_memory(job: ActJob) -> int:
    memory = shared_memory.SharedMemory(job.args.text)
    touched(memory.buf)
    wait_for_looks(job)
    size = memory.size
    memory.close()
    return size


@deed
def look_at_model(job: ActJob) -> int:
    touched(INHERITED)
    wait_for_looks(job)
    return len(INHERITED)


@deed
def look_at_model_in_children(job: ActJob) -> int:
    """Three children look at the model too."""
    children = [os.fork() for _ in range(3)]
    touched(INHERITED)
    if 0 in children:
        time.sleep(1000)
    wait_for_looks(job)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(INHERITED)


@deed
def fill_nameless_memory(job: ActJob) -> None:
    """Takes *number* MB that a fork would share."""
    memory = mmap.mmap(-1, job.args.number << 20)
    written(memory)
    wait(job)


@deed
def fill_raw_array(job: ActJob) -> None:
    memory = multiprocessing.RawArray("b", job.args.number << 20)
    written(memory)
    wait(job)


@deed
def hide_memory_by_a_fork(job: ActJob) -> None:
    """Takes *number* MB; then a child has it too, so that it is nobody's alone."""
    eaten = b"x" * (job.args.number << 20)
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    note(job, f"child {child}")
    wait(job)
    del eaten


def wait_for_looks(job: ActJob) -> None:
    """Stays as it is until its memory was looked at."""
    note(job, "touched")
    while not Path(f"{job.args.log}.seen").exists():
        time.sleep(0.005)
