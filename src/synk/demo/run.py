"""The demo from end to end: database, producer, supervisor, view, and the account at the end."""

from __future__ import annotations

import datetime as dt
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.rule import Rule
from rich.text import Text
from ulid import ULID

import synk
from synk.config import QueueConfig
from synk.demo.jobs import PLANTED, Misbehaver, files_in, work_on_file
from synk.demo.view import View
from synk.errors import ConfigurationError
from synk.runtime.ipc import linux
from synk.show.console import columns_of, put
from synk.show.jobs import failed_attempt
from synk.show.stats import summary_table
from synk.show.values import duration, state
from synk.storage.connecting import DSN_VARIABLE
from synk.storage.project import is_embedded

if TYPE_CHECKING:
    from rich.console import Console

    from synk.row import JobRow

DRAIN: Final = dt.timedelta(seconds=2)
"""What running jobs get after Ctrl-C."""

INTERRUPTED: Final = 130
"""The exit status of a program that Ctrl-C ended."""

_TRACE_LINES: Final = 16


class Demo:
    """One run, in a queue of its own."""

    def __init__(
        self, console: Console, dsn: str, folder: Path | None, processes: int | None
    ) -> None:
        self._console = console
        self._dsn = dsn
        self._folder = folder
        self._queue = f"demo-{str(ULID())[-8:].lower()}"
        logger = logging.getLogger("synk.demo")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._client = synk.Client(
            storage=synk.PostgresStorage(dsn),
            queues={self._queue: QueueConfig(job_timeout=dt.timedelta(seconds=30))},
            workers=[work_on_file, Misbehaver()],
            processes=processes,
            drain_timeout=DRAIN,
            logger=logger,
        )
        self._tag = str(self._client.id)
        self._finished = False
        self._left: list[int] = []
        """Children of killed jobs that were still there at the end."""

    def run(self) -> int:
        """Runs it; returns the exit status: 0 if every job ended as it should.

        Raises:
            ConfigurationError: there is no file to work on.
            SynkError: the database or the worker processes cannot be started.
        """
        total = len(files_in(self._folder))
        if not total:
            raise ConfigurationError("folder", str(self._folder), "holds no file that can be read")
        self._client.storage.migrate()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        began = time.monotonic()
        producer = self._start_producer()
        view = View(
            self._console,
            self._client,
            self._queue,
            total + len(PLANTED),
            lambda: bool(producer.poll()),
            self._when_finished,
        )
        view.start()
        try:
            self._client.start()
        finally:
            view.stop()
            failed = bool(producer.poll())
            producer.kill()
            producer.wait()
        try:
            if failed:
                self._console.print("[red]the producer failed[/red], not all jobs were inserted")
                return 1
            if not self._finished:
                self._console.print("interrupted; nothing is lost, and no process is left")
                return INTERRUPTED
            return self._account(time.monotonic() - began)
        finally:
            self._client.close()

    def _start_producer(self) -> subprocess.Popen[bytes]:
        folder = [] if self._folder is None else [str(self._folder)]
        return subprocess.Popen(  # noqa: S603 - this interpreter, our own module
            [sys.executable, "-m", "synk.demo.produce", self._queue, *folder],
            env={**os.environ, DSN_VARIABLE: self._dsn},
            start_new_session=True,
        )

    def _when_finished(self) -> None:
        # Now, while the workers live: the end of the supervisor kills whatever is left.
        self._left = [pid for pid in linux.tagged_processes(self._tag) if _is_sleep(pid)]
        self._finished = True
        self._client.shutdown()

    def _account(self, seconds: float) -> int:
        kinds = self._client.storage.summary(self._queue)
        cpu_s = sum(each.cpu_time.total_seconds() for each in kinds)
        workers = self._client.engine.processes
        put(summary_table(kinds, width=columns_of(self._console)), self._console)
        self._console.print(
            f"\n{sum(each.completed + each.cancelled for each in kinds):,} jobs in "
            f"{duration(seconds)} on {workers} worker processes, which spent "
            f"{cpu_s / seconds / workers:.0%} of that time on the CPU in jobs"
        )
        self._draw_line("the planted jobs")
        storage = self._client.storage
        listed = storage.jobs(state=None, queue=self._queue, kind="planted", limit=len(PLANTED))
        planted = storage.get([each.id for each in listed])
        problems = self._problems(planted)
        for row in planted:
            self._show_planted(row)
        self._draw_line()
        for problem in problems:
            self._console.print(f"[red]not as it should be:[/red] {problem}")
        if not problems:
            self._console.print("[green]Every job ended as it should.[/green] To go on:")
            self._how_to_go_on(planted[-1])
        return 1 if problems else 0

    def _show_planted(self, row: JobRow) -> None:
        title = Text(f"{row.name}: ", style="bold").append_text(state(row))
        self._console.print(title)
        for record in row.errors:
            put(failed_attempt(record, lines=_TRACE_LINES), self._console)

    def _draw_line(self, title: str = "") -> None:
        # As wide as a terminal; where there is none, nothing says how wide that would be.
        is_wide = self._console.is_terminal
        self._console.print(Rule(title, style="dim") if is_wide else Text(title))

    def _problems(self, planted: list[JobRow]) -> list[str]:
        found = [
            f"{row.name} (job {row.id}) is {row.state} after {row.attempt} attempts"
            for row in planted
            if not _as_expected(row)
        ]
        if len(planted) != len(PLANTED):
            found.append(f"{len(planted)} of {len(PLANTED)} planted jobs are there")
        numbers = self._client.storage.counts(self._queue)
        cancelled = numbers.get(synk.JobState.CANCELLED, 0)
        expected = sum(each.state is synk.JobState.CANCELLED for each in PLANTED.values())
        if cancelled != expected:
            found.append(f"{cancelled} jobs are cancelled, {expected} should be")
        if self._left:
            found.append(f"children of killed jobs are left: {self._left}")
        return found

    def _how_to_go_on(self, row: JobRow) -> None:
        # A DSN may hold a password, and this is printed.
        option = f" --storage {self._dsn if is_embedded(self._dsn) else 'DSN'}"
        where = "" if os.environ.get(DSN_VARIABLE) == self._dsn else option
        for command in (
            f"synk jobs --queue {self._queue} --state cancelled{where}",
            f"synk job {row.id}{where}",
        ):
            self._console.print(f"  {command}", highlight=False, soft_wrap=True)


def _is_sleep(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "sleep"
    except OSError:
        return False


def _as_expected(row: JobRow) -> bool:
    expected = PLANTED[row.name]
    return (
        row.state is expected.state
        and row.attempt == expected.attempts
        and [record.cause for record in row.errors] == [expected.cause]
    )
