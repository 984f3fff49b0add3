"""``synk start``: runs a supervisor until a signal stops it.

SIGTERM, SIGINT and SIGHUP are heard by `synk.runtime.supervisor.stop_signals`, which has the
supervisor drain and stop; `synk.cli.pid1` passes them on where this is the first process of a
container, and `synk.cli.exit_watchdog` ends a process that does not end itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from synk.cli.pid1 import stay_behind_as_pid1
from synk.config import QueueConfig
from synk.errors import ConfigurationError
from synk.queues import Queues

if TYPE_CHECKING:
    from collections.abc import Generator

    from synk.cli.exit_watchdog import ExitWatchdog
    from synk.client import Client

_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@click.command()
@click.argument("target", metavar="MODULE:CLIENT")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Worker processes; by default one a CPU."
)
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME[=N]",
    help="Serve only this queue, N jobs at once; may be given several times.",
)
@click.option(
    "--app-dir",
    type=click.Path(path_type=Path),
    help="The folder that the module is in; by default the current one.",
)
@click.option(
    "--log-level", default="INFO", show_default=True, help="DEBUG, INFO, WARNING or ERROR."
)
def start(
    *,
    target: str,
    processes: int | None,
    queues: tuple[str, ...],
    app_dir: Path | None,
    log_level: str,
) -> None:
    """Run a supervisor until a signal stops it.

    It serves the queues of a client, such as myapp.jobs:client.

    The exit status is 75 if outcomes could not be stored at the end: those jobs run again.
    Its memory is closed to jobs, which run as the same user: look into it as root.
    """
    if sys.platform == "linux":
        from synk.runtime.ipc import linux  # noqa: PLC0415 - `--help` needs no supervisor

        # Before process 1 parts in two: both were given the database's password.
        linux.close_memory()
    stay_behind_as_pid1()
    level = log_level.upper()
    if level not in _LEVELS:
        raise ConfigurationError("--log-level", log_level, f"must be one of {_LEVELS}")
    logging.basicConfig(format=_LOG_FORMAT, level=level)
    from synk.cli.target import client_at  # noqa: PLC0415 - `--help` needs no driver

    client = client_at(target, app_dir or Path.cwd())
    _configure(client, processes, list(queues))
    raise click.exceptions.Exit(_served(client))


def _configure(client: Client, processes: int | None, queues: list[str]) -> None:
    """Gives *client* the settings of the command line.

    Raises:
        ConfigurationError: a queue's number is none, or the client has no such queue or no worker.
    """
    if processes is not None:
        client.engine = dataclasses.replace(client.engine, processes=processes)
    if queues and not client.registry.kinds:
        raise ConfigurationError("--queue", queues, "this client has no worker: give it workers=")
    if queues:
        client.queues = Queues(dict(_queue(client, text) for text in queues), client.storage)


def _queue(client: Client, text: str) -> tuple[str, QueueConfig]:
    name, separator, number = text.partition("=")
    if not name or (separator and not number.isdecimal()):
        raise ConfigurationError("--queue", text, "must be NAME or NAME=NUMBER")
    if client.queues and name not in client.queues:
        known = ", ".join(client.queues)
        raise ConfigurationError("--queue", name, f"this client has no such queue; it has: {known}")
    queue = client.queues.get(name, QueueConfig())
    return name, dataclasses.replace(queue, max_workers=int(number)) if separator else queue


def _served(client: Client) -> int:
    """Runs a supervisor until it is told to stop; returns the exit status."""
    from synk.cli.exit_watchdog import ExitWatchdog  # noqa: PLC0415 - `--help` needs no supervisor

    watchdog = ExitWatchdog()
    client.telemetry.subscribe(watchdog.follow, successes=False)
    with _obeying_once(watchdog):
        client.start()
    client.close()
    return watchdog.status


@contextlib.contextmanager
def _obeying_once(watchdog: ExitWatchdog) -> Generator[None]:
    """Has stop signals end this process until the supervisor has stopped, and none after that.

    Whoever says it once more at the end must not turn an orderly stop into a death by a signal.
    While the supervisor runs it hears them itself.
    """
    from synk.runtime.supervisor.stop_signals import STOP_SIGNALS  # noqa: PLC0415 - as above

    def end(number: int, _frame: object) -> None:
        if not watchdog.has_stopped:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    obeyed = [each for each in STOP_SIGNALS if signal.getsignal(each) != signal.SIG_IGN]
    for number in obeyed:
        signal.signal(number, end)
    yield
    for number in obeyed:
        # By the kernel: Python takes its own handlers away while it ends.
        signal.signal(number, signal.SIG_IGN)
