"""Jobs that fork, as data loaders and old scripts do, and tell of their children."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from support.jobs.acts import ActJob, deed, note
from support.jobs.observation import descriptors_of

_FORK = multiprocessing.get_context("fork")

_DISPOSITIONS = ("SigBlk:", "SigIgn:", "SigCgt:")
"""Lines of /proc/PID/status: the signals that are blocked, ignored, and handled."""


def _square(number: int) -> int:
    return number * number


def _status_of(child: Callable[[], object]) -> int:
    """Runs *child* in a fork; returns its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            child()
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _told_by_child(tell: Callable[[], object]) -> str:
    """Returns what *tell* says in a fork."""
    reading, writing = os.pipe()

    def child() -> None:
        os.write(writing, str(tell()).encode())

    _status_of(child)
    os.close(writing)
    with os.fdopen(reading) as told:
        return told.read()


def _dispositions() -> list[str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return [line for line in lines if line.startswith(_DISPOSITIONS)]


@deed
def terminate_process(job: ActJob) -> list[int | None]:
    """Terminates children that have just begun, and some that sleep."""
    codes: list[int | None] = []
    for _ in range(job.args.number):
        process = _FORK.Process(target=time.sleep, args=(60,))
        process.start()
        process.terminate()
        process.join(20)
        codes.append(process.exitcode)
    return codes


@deed
def use_pools(job: ActJob) -> list[int]:
    """One after the other, each ended by `terminate` where the block is left."""
    sums: list[int] = []
    for _ in range(job.args.number):
        with _FORK.Pool(2) as pool:
            sums.append(sum(pool.map(_square, range(10))))
    return sums


@deed
def use_executor(job: ActJob) -> int:
    with ProcessPoolExecutor(2, mp_context=_FORK) as pool:
        return sum(pool.map(_square, range(10)))


@deed
def look_at_dispositions(job: ActJob) -> list[str]:
    """What a fork has of signals here, and what one has under a plain script."""
    program = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    lines = open('/proc/self/status').read().splitlines()\n"
        f"    print([line for line in lines if line.startswith({_DISPOSITIONS})])\n"
        "else:\n"
        "    os.wait()"
    )
    command = [sys.executable, "-c", program]
    plain = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [_told_by_child(_dispositions), plain.strip()]


@deed
def fork_in_a_thread(job: ActJob) -> list[str]:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(_told_by_child(_dispositions)))
    thread.start()
    thread.join()
    return [*told, _told_by_child(_dispositions)]


@deed
def fork_with_own_handler(job: ActJob) -> int:
    """A handler that the job has set is its child's, too."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(41))
    return _status_of(lambda: (os.kill(os.getpid(), signal.SIGTERM), time.sleep(60)))


@deed
def interrupt_child(job: ActJob) -> str:
    """Ctrl-C raises in a child, as in any Python program."""

    def interrupted() -> str:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            return "KeyboardInterrupt"
        return "nothing"

    return _told_by_child(interrupted)


@deed
def crash_child(job: ActJob) -> int:
    """A child dies in C code; the job is killed for its own sake afterwards, with its own stack."""
    status = _status_of(lambda: ctypes.string_at(0))
    note(job, f"child {status}")
    time.sleep(60)
    return status


@deed
def look_at_descriptors_of_child(job: ActJob) -> list[str]:
    """What the worker talks through, in itself and in a fork."""
    kinds = ("socket:", "/memfd:synk-status-page")
    here = [len(descriptors_of(kind)) for kind in kinds]
    return [str(here), _told_by_child(lambda: [len(descriptors_of(kind)) for kind in kinds])]


@deed
def note_in_child(job: ActJob) -> str:
    """The job's progress is told by the job's own process only; whether it is cancelled, by all."""
    job.progress(1, 2, "in the job")

    def in_child() -> object:
        job.progress(2, 2, "in a child")
        job.checkpoint("of a child")
        return job.cancelled

    return _told_by_child(in_child)


@deed
def leave_by_exit(job: ActJob) -> list[int]:
    """Forks that leave the handler by an exception end as a script of their own would."""
    statuses: list[int] = []
    for text in ("exit", "text", "raise", "interrupt"):
        pid = os.fork()
        if pid == 0:
            print(f"child says {text}", end="")
            if text == "exit":
                sys.exit(3)
            if text == "text":
                sys.exit("child gives up")
            if text == "interrupt":
                raise KeyboardInterrupt
            raise LookupError("child fails")
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return statuses


@deed
def fork_without_descriptors(job: ActJob) -> int:
    """Forks as what makes daemons does: after it has closed all that is open."""
    os.closerange(3, 4096)
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def pool_at_start() -> None:
    """To be given as `on_worker_start`."""
    with _FORK.Pool(2) as pool:
        os.environ["SYNK_TEST_POOLED"] = str(sum(pool.map(_square, range(10))))


@deed
def look_at_pool_of_start(job: ActJob) -> str:
    return os.environ["SYNK_TEST_POOLED"]
