"""Kills on the engine alone, without a database."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import synk
from kill_jobs import LONG_S, PRELOADED, TIMEOUTS_S, Misbehaver, clock
from synk.claim import ClaimedJob
from synk.config import EngineConfig
from synk.core import messages as m
from synk.core.limits import QueueLimits
from synk.registry import Registry
from synk.runtime.ipc import linux
from synk.runtime.supervisor.engine import Engine
from synk.telemetry import Telemetry
from watching import Kill, Watch, WatchedPool, WatchedWorkerSet

if TYPE_CHECKING:
    from collections.abc import Generator


class Bench:
    """A pool without a storage: a slot that is measured, and others whose jobs spin."""

    def __init__(self, engine: Engine, watch: Watch, tag: str, spinning: int) -> None:
        self._spinning = spinning
        self._engine = engine
        self._watch = watch
        self._tag = tag
        self._jobs = 0
        self._fork_server = 0
        self.fork_server_mb = 0.0

    def begin(self) -> None:
        for _ in range(self._spinning + 1):
            self._watch.wait_for("ready")
        for _ in range(self._spinning):
            self._post(self._job("spin"))
            self._watch.wait_for("running")
        worker = psutil.Process(next(iter(self._watch.pids.values())))
        self._fork_server = worker.ppid()
        self.fork_server_mb = linux.resident_bytes(self._fork_server) / 1e6

    def time_out(self, how: str) -> Kill:
        kill = self._watch.kill = Kill(how, self._job(how, TIMEOUTS_S[how]))
        self._post(kill.job)
        self._watch.wait_for("ready")
        return self._ended(kill)

    def kill_outside(self, how: str) -> Kill:
        following = self._job("next", kind="clock")
        kill = self._watch.kill = Kill(how, self._job(how), following)
        self._post(kill.job)
        self._watch.wait_for("running")
        self._post(following)
        time.sleep(random.uniform(0.08, 0.12))
        pid = self._watch.pids[kill.slot]
        if pid <= 0:
            raise SystemExit(f"slot {kill.slot} has no worker to kill")
        kill.over = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._watch.wait_for("next")
        return self._ended(kill)

    def _ended(self, kill: Kill) -> Kill:
        self._watch.kill = None
        expected = {self._fork_server, *self._watch.pids.values()}
        others = set(linux.tagged_processes(self._tag)) - expected
        kill.survivors = sum(not is_spare(pid) for pid in others)
        return kill

    def _post(self, job: ClaimedJob) -> None:
        self._engine.post(m.Claimed([job]))

    def _job(self, how: str, timeout_s: float = LONG_S, *, kind: str = "misbehave") -> ClaimedJob:
        self._jobs += 1
        now = datetime.now(UTC).timestamp()
        args = {"how": how, "timeout_s": timeout_s} if kind == "misbehave" else {}
        return ClaimedJob(
            id=self._jobs,
            attempt=1,
            kind=kind,
            priority=synk.Priority.MEDIUM,
            scheduled_at=now,
            max_attempts=1,
            uncounted=0,
            name=how,
            created_at=now,
            attempted_at=now,
            args=json.dumps(args),
            history=None,
            queue="default",
            claim_seq=1,
        )


def is_spare(pid: int) -> bool:
    """Whether it is what the fork server keeps for the next slot, perhaps just forked."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() in ("synk-spare\n", "synk-forkserver\n")
    except OSError:
        return False


@contextmanager
def running_bench(spinning: int) -> Generator[Bench]:
    """An engine in a thread; at the end nothing of it may be left."""
    watch, tag = Watch(), f"bench-kill-{os.getpid()}"
    processes = spinning + 1
    limits = QueueLimits(max_workers=processes, timeout_s=LONG_S)
    config = EngineConfig(processes=processes, preload=PRELOADED)
    engine = Engine(
        WatchedPool(watch, config, {"default": limits}),
        config,
        Registry([Misbehaver(), clock]),
        {"default": synk.QueueConfig(job_timeout=timedelta(seconds=LONG_S))},
        client_id=tag,
        settle=lambda _: None,
        on_change=lambda: None,
        facts=Telemetry(),
        make_workers=functools.partial(WatchedWorkerSet, watch),
    )
    thread = threading.Thread(target=engine.run)
    thread.start()
    bench = Bench(engine, watch, tag, spinning)
    try:
        bench.begin()
        yield bench
    finally:
        engine.post(m.DrainRequested(time.monotonic()))
        thread.join()
    if left := linux.tagged_processes(tag):
        raise SystemExit(f"processes are left at the end: {left}")
