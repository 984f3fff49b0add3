"""What the forkserver does once, before it makes workers. Imported in it as its preload module.

It imports the handlers' modules, so that a replacement for a dead worker is forked in milliseconds;
what fails to import is remembered for the workers to report, since nobody reads the forkserver's
own output. And it ties the processes' lives together: it is told when the supervisor dies, and then
kills all that carries the supervisor's tag, also what jobs have started.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import traceback
from multiprocessing import spawn
from typing import TYPE_CHECKING, Final

from synk.runtime import linux

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS: Final = "SYNK_NURSERY"
"""The environment variable with what to do, as JSON; only the forkserver gets it."""

_IMPORTING: Final = "_inheriting"
"""multiprocessing's own mark on a process that is importing the main script as a child."""

pid: int | None = None
"""The forkserver's pid, in it and in the workers forked from it."""

is_worker = False
"""Whether this process runs jobs."""

supervisor_pid = 0
"""In a worker: who started it."""

problems: dict[str, str] = {}
"""Module -> why it could not be imported."""


def _begin() -> None:
    global pid  # noqa: PLW0603 - a fact of this process, set once and inherited by its forks
    text = os.environ.pop(SETTINGS, None)
    if text is None:
        return
    settings = json.loads(text)
    pid = os.getpid()
    signal.signal(signal.SIGUSR1, _supervisor_died)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    linux.die_with_parent(signal.SIGUSR1)
    if os.getppid() != settings["supervisor_pid"]:
        _supervisor_died(0, None)
    _attempt("__main__", lambda: _prepare(settings["prepare"]))
    for name in settings["modules"]:
        _attempt(name, lambda name=name: __import__(name))
    gc.collect()
    # What was imported is never collected, so the pages stay shared with the workers.
    gc.freeze()


def _prepare(data: dict[str, object]) -> None:
    """Sets the path, and imports the user's script if it is among *data*, as children do it."""
    process = multiprocessing.current_process()
    # Says that the script is only being imported: see `is_child`.
    setattr(process, _IMPORTING, True)
    try:
        spawn.prepare(data)
    finally:
        delattr(process, _IMPORTING)


def is_child() -> bool:
    """Whether this process is a worker, or is importing the user's script to become one."""
    return is_worker or getattr(multiprocessing.current_process(), _IMPORTING, False)


def _attempt(name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except BaseException:  # noqa: BLE001 - also SystemExit of a script: the workers report it
        problems[name] = traceback.format_exc(limit=-8)


def _supervisor_died(_signal: int, _frame: object) -> None:
    linux.kill_tagged(os.environ.get(linux.TAG, ""))
    os._exit(1)


def _ignore(_signal: int, _frame: object) -> None:
    """A handler instead of SIG_IGN, which programs that jobs start would inherit."""


_begin()
