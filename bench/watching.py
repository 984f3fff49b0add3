"""An engine that is watched: when the steps of one kill pass, without a change to any of them."""

from __future__ import annotations

import json
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synk.core import messages as m
from synk.core.pool import Pool
from synk.runtime.supervisor.worker_set import WorkerSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.claim import ClaimedJob
    from synk.runtime.supervisor.fork_server_process import WorkerForked
    from synk.runtime.supervisor.worker_process import WorkerProcess

PATIENCE_S = 30.0
"""A step that takes longer than this is no figure but a fault."""


@dataclass
class Kill:
    """One kill: moments on the monotonic clock, in seconds."""

    how: str
    job: ClaimedJob
    following: ClaimedJob | None = None
    """What runs next on the slot, where that is waited for."""
    slot: int = -1
    began: float = 0.0
    over: float = 0.0
    """What all others are counted from: the end of its time, or the SIGKILL."""
    decided: float = 0.0
    dead: float = 0.0
    reaped: float = 0.0
    forked: float = 0.0
    ready: float = 0.0
    next_began: float = 0.0
    has_stack: bool = False
    was_in_place: bool = False
    survivors: int = 0

    def ms(self, step: str) -> float:
        return (getattr(self, step) - self.over) * 1000


class Watch:
    """Notes when the steps of the current kill pass; called in the engine's thread."""

    def __init__(self) -> None:
        self.kill: Kill | None = None
        self.pids: dict[int, int] = {}
        """Of the workers, by slot."""
        self.running: dict[int, int] = {}
        """The number of the job that began last, by slot."""
        self.told: queue.SimpleQueue[str] = queue.SimpleQueue()

    def wait_for(self, what: str) -> None:
        while self.told.get(timeout=PATIENCE_S) != what:
            pass

    def event(self, event: m.Event, commands: Sequence[m.Command]) -> None:
        now = time.monotonic()
        for command in commands:
            self._command(command, now)
        match event:
            case m.Reported():
                self._reported(event)
            case m.WorkerReady():
                self._ready(event, now)
            case m.WorkerExited():
                self._exited(event, now)
            case _:
                pass

    def _command(self, command: m.Command, now: float) -> None:
        kill = self.kill
        if kill is None:
            return
        match command:
            case m.Send() if kill.job in command.jobs:
                kill.slot = command.slot
            case m.Kill() if command.slot == kill.slot:
                kill.decided = now
            case m.Settle():
                for ended in command.ended:
                    if ended.job is kill.job and ended.outcome.error is not None:
                        trace = json.loads(ended.outcome.error).get("trace", "")
                        kill.has_stack = f"in {kill.how}" in trace
            case _:
                pass

    def _reported(self, event: m.Reported) -> None:
        report, kill = event.report, self.kill
        if report.running and report.running != self.running.get(event.slot):
            self.running[event.slot] = report.running
            if kill is None or not kill.reaped:
                self.told.put("running")
        if kill is None or event.slot != kill.slot:
            return
        if kill.reaped and kill.following and not kill.next_began and report.done:
            kill.next_began = report.started_s
            self.told.put("next")

    def _ready(self, event: m.WorkerReady, now: float) -> None:
        self.pids[event.slot] = event.pid or 0
        kill = self.kill
        if kill is not None and event.slot == kill.slot:
            kill.ready = now
        self.told.put("ready")

    def _exited(self, event: m.WorkerExited, now: float) -> None:
        self.pids.pop(event.slot, None)
        self.running.pop(event.slot, None)
        kill = self.kill
        if kill is not None and event.slot == kill.slot:
            kill.reaped = now
            # The fork server may have been faster than the look at the process itself.
            kill.dead = kill.dead or now
            kill.began = event.report.started_s
            kill.was_in_place = event.exit.checkpoint is not None
            if not kill.over:
                kill.over = kill.began + (event.report.timeout_s or 0.0)

    def died(self, slot: int) -> None:
        if self.kill is not None and slot == self.kill.slot:
            self.kill.dead = time.monotonic()

    def forked(self, slot: int) -> None:
        if self.kill is not None and slot == self.kill.slot:
            self.kill.forked = time.monotonic()


class WatchedPool(Pool):
    """Tells the watch of each event, once it is handled."""

    def __init__(self, watch: Watch, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self._watch = watch

    def handle(self, event: m.Event, now: float) -> list[m.Command]:
        commands = super().handle(event, now)
        self._watch.event(event, commands)
        return commands


class WatchedWorkerSet(WorkerSet):
    """Tells the watch also of births and deaths, of which the pool hears later or never."""

    def __init__(self, watch: Watch, *given: Any, **options: Any) -> None:
        self.watch = watch
        super().__init__(*given, **options)

    def _on_exit(self, slot: int, process: WorkerProcess) -> None:
        self.watch.died(slot)
        super()._on_exit(slot, process)

    def _on_forked(self, news: WorkerForked) -> None:
        self.watch.forked(news.slot)
        super()._on_forked(news)
