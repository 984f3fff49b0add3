"""Jobs that behave, and tell what they see."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import synk
from support.jobs.acts import ActJob, deed, note


def descriptors_of(kind: str) -> list[int]:
    """The numbers of the descriptors that lead to something that is called so."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [int(link.name) for link in links if str(link.readlink()).startswith(kind)]


@deed
def nothing(job: ActJob) -> None:
    pass


@deed
def wait(job: ActJob) -> str:
    """Runs until its file is there."""
    while not Path(job.args.path).exists():
        time.sleep(0.005)
    return "waited"


@deed
def draw_numbers(job: ActJob) -> list[float]:
    """Chance as the standard library has it, and as something does that a fork would copy."""
    copied: Any = sys.modules["numpy.random"]
    return [random.random(), copied.random()]


@deed
def start_client(job: ActJob) -> None:
    storage = synk.PostgresStorage("postgresql://nobody@127.0.0.1:9/none")
    workers = [sys.modules["support.jobs.actors"].Actor()]
    synk.Client(storage=storage, queues={"default": synk.QueueConfig()}, workers=workers).start()


@deed
def work_in_kernel(job: ActJob) -> None:
    """Has the kernel work for *number* milliseconds."""
    end = time.monotonic() + job.args.number / 1000
    with Path("/dev/urandom").open("rb", buffering=0) as source:
        while time.monotonic() < end:
            source.read(1 << 20)


@deed
def work_in_child(job: ActJob) -> None:
    """Has a child work for *number* milliseconds of CPU time, and waits for it."""
    program = f"import time\nwhile time.process_time() < {job.args.number / 1000}: pass"
    subprocess.run([sys.executable, "-S", "-c", program], check=True)


@deed
def note_progress(job: ActJob) -> object:
    """Notes 0 to *number*, then waits, or fails, or is done."""
    for done in range(job.args.number + 1):
        job.progress(done, job.args.number, f"item {done}")
    return end_as_told(job)


@deed
def note_checkpoint(job: ActJob) -> object:
    """Notes a checkpoint in the first attempt; later ones return what they find."""
    if job.attempt > 1:
        return job.last_checkpoint
    for page in range(job.args.number + 1):
        job.checkpoint({"page": page, "seen": ["a", None, 1.5]})
    return end_as_told(job)


def end_as_told(job: ActJob) -> object:
    note(job, "noted")
    match job.args.text:
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "raises":
            raise LookupError("after the notes")
        case "waits":
            wait(job)
        case _:
            pass
    return "first"


@deed
def refuse_notes(job: ActJob) -> None:
    job.progress(3, 4, "kept")
    job.checkpoint("kept")
    for _ in range(50):
        job.progress(float("nan"))
        job.checkpoint(object())
        job.checkpoint("x" * 70_000)
        job.checkpoint(["a\x00b"])
    raise RuntimeError("the checkpoint is kept for another attempt")


@deed
def terminate_child(job: ActJob) -> int:
    child = subprocess.Popen(["sleep", "1000"])
    child.terminate()
    return child.wait()


@deed
def tick(job: ActJob) -> str:
    """Notes every few milliseconds that it runs, until its file is there."""
    while not Path(job.args.path).exists():
        note(job, f"at {job.attempt} {time.monotonic_ns()}")
        time.sleep(0.003)
    return "ticked"


@deed
def surroundings(job: ActJob) -> dict[str, object]:
    """What the process was given, and what a program that it starts gets."""
    status = Path("/proc/self/status").read_text()
    return {
        "environment": sorted(os.environ),
        "of the kernel": Path("/proc/self/environ").read_text().count(job.args.text),
        "of a child": subprocess.check_output(["/usr/bin/env"], text=True).count(job.args.text),
        "no new privileges": "NoNewPrivs:\t1" in status,
        "descriptors": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
        "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "started": os.environ.get("SYNK_TEST_STARTED"),
    }


@deed
def run_for(job: ActJob) -> None:
    """Takes *number* microseconds."""
    end = time.monotonic_ns() + job.args.number * 1000
    while time.monotonic_ns() < end:
        pass


@deed
def nap(job: ActJob) -> None:
    time.sleep(1000)


@deed
def finish_at_soft_timeout(job: ActJob) -> str:
    assert job.deadline is not None
    left_s = (job.deadline - datetime.now(timezone.utc)).total_seconds()
    note(job, f"left {left_s}")
    try:
        time.sleep(1000)
    except synk.SoftTimeout as error:
        note(job, "tidied up")
        return str(error)
    return "never told"


@deed
def end_at_cancel(job: ActJob) -> None:
    """Tidies up when it is cancelled, and leaves a child behind."""
    child = subprocess.Popen(["sleep", "1000"])
    try:
        note(job, f"child {child.pid}")
        time.sleep(1000)
    except synk.JobCancelled:
        note(job, f"tidied up {job.cancelled}")
        raise


@deed
def notice_cancel(job: ActJob) -> str:
    """Looks for itself whether it is cancelled, and completes in spite of it."""
    note(job, f"before {job.cancelled}")
    while True:
        try:
            while not job.cancelled:
                time.sleep(0.01)
        except synk.JobCancelled:
            return f"cancelled={job.cancelled}"
