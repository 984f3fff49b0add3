"""What the demo shows while it runs: progress, states, and what each worker does now."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from synk.errors import StorageError
from synk.show.values import counts, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from synk.client import Client
    from synk.row import JobState

REFRESH_S: Final = 0.25
PLAIN_REFRESH_S: Final = 2.0
"""Between two lines where the output is no terminal."""


class View:
    """Shows a run until all of its jobs have ended, then calls *on_finished* once.

    Args:
        console: where to show it.
        client: the client that runs.
        queue: the run's queue.
        total: how many jobs there will be.
        has_failed: whether the jobs will never all be there: the run ends then.
        on_finished: called in the view's thread.
    """

    def __init__(
        self,
        console: Console,
        client: Client,
        queue: str,
        total: int,
        has_failed: Callable[[], bool],
        on_finished: Callable[[], None],
    ) -> None:
        self._console = console
        self._client = client
        self._queue = queue
        self._total = total
        self._has_failed = has_failed
        self._on_finished = on_finished
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="synk-demo-view", daemon=True)
        self._began = time.monotonic()
        self._progress = Progress(
            BarColumn(bar_width=40),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._progress.add_task("jobs", total=total, rate="")

    def start(self) -> None:
        """Begins to show."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the show."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        live = Live(console=self._console, auto_refresh=False, transient=True)
        with live if self._console.is_terminal else contextlib.nullcontext():
            printed = 0.0
            numbers: Mapping[JobState, int] = {}
            while not self._stop.wait(REFRESH_S):
                with contextlib.suppress(StorageError):
                    numbers = self._client.storage.counts(self._queue)
                ended = sum(count for state, count in numbers.items() if state.is_final)
                if self._console.is_terminal:
                    live.update(self._picture(numbers, ended), refresh=True)
                elif time.monotonic() - printed > PLAIN_REFRESH_S:
                    printed = time.monotonic()
                    self._console.print(self._line(numbers, ended))
                if ended >= self._total or self._has_failed():
                    self._on_finished()
                    return

    def _line(self, numbers: Mapping[JobState, int], ended: int) -> Text:
        return Text(f"{ended:,}/{self._total:,}  {self._rate(ended)}  ") + counts(numbers)

    def _rate(self, ended: int) -> str:
        return f"{ended / max(0.001, time.monotonic() - self._began):.0f} jobs/s"

    def _picture(self, numbers: Mapping[JobState, int], ended: int) -> Group:
        self._progress.update(self._task, completed=ended, rate=self._rate(ended))
        return Group(self._progress, counts(numbers), self._workers())

    def _workers(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        for running in self._client.running():
            doing = Text("idle", style="dim")
            if running.job_id is not None:
                doing = Text(f"{duration(running.seconds)}  {running.kind}  {running.name}")
            table.add_row(Text(f"worker {running.slot}", style="dim"), doing)
        return table
