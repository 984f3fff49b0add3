"""Workers that take too long to be ready, or never are: one line says why and where."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest

import synk
from support.failing_starts import module_of, problem_at_start
from support.supervising import ended, make_client, supervised, wait_until

LIMIT = timedelta(seconds=1)

HANDLER = """
import ctypes, os, pathlib, signal, sys, threading, time
import synk
from dataclasses import dataclass

HERE = pathlib.Path(__file__).parent
IS_CHILD = "SYNK_SUPERVISOR" in os.environ

@dataclass
class Mine(synk.JobArgs, kind="mine"):
    pass

@synk.worker
def mine(job: synk.Job[Mine]) -> str:
    return "done"

def times():
    # Where this process' own byte ended: no two workers that begin at once get the same number.
    with open(HERE / "starts", "ab", buffering=0) as file:
        file.write(b"x")
        return file.tell()

"""

Module = Callable[[str, str], ModuleType]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    def make(name: str, text: str) -> ModuleType:
        return importlib.import_module(module_of(tmp_path, name, HANDLER + text, monkeypatch))

    return make


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())

    def of_starts(self) -> list[str]:
        return [text for text in self.texts if "ready" in text or "imported" in text]


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def logger(lines: Lines) -> Iterator[logging.Logger]:
    logger = logging.getLogger("of_starts")
    logger.setLevel(logging.INFO)
    logger.addHandler(lines)
    yield logger
    logger.removeHandler(lines)


HANGS = """
def python():
    while True: pass

def locked(): (lock := threading.Lock()).acquire(); lock.acquire()

def in_c(): ctypes.CDLL(None).sleep(600)

def stopped(): os.kill(os.getpid(), signal.SIGSTOP)

WAYS = [python, locked, in_c, stopped]

def hook():
    number = times()
    if number <= len(WAYS):
        WAYS[number - 1]()
"""


def test_w22_a_hook_that_hangs_is_killed_and_the_line_says_where_it_was(
    dsn: str, module: Module, lines: Lines, logger: logging.Logger
) -> None:
    found = module("hangs", HANGS)
    options = {"on_worker_start": found.hook, "start_timeout": 2 * LIMIT, "logger": logger}
    options["processes"] = len(found.WAYS) + 1
    with supervised(dsn, workers=[found.mine], **options) as client:
        row = ended(client, client.insert("x", found.Mine()))
        wait_until(lambda: len(lines.of_starts()) == len(found.WAYS))

    assert (row.result, row.attempt) == ("done", 1)
    places = []
    for line in lines.of_starts():
        assert "not ready within start_timeout (2 s) and was killed" in line
        assert "\n" not in line
        places += re.findall(r"it was in (\w+) at hangs\.py:\d+", line)
    assert sorted(places) == ["in_c", "locked", "python", "stopped"]


def test_w22_an_import_that_hangs_under_spawn_is_killed_and_told(
    dsn: str, module: Module, lines: Lines, logger: logging.Logger
) -> None:
    found = module("hangs_in_spawn", "if IS_CHILD and times() <= 2: time.sleep(600)")
    options = {"start_method": "spawn", "start_timeout": 3 * LIMIT, "logger": logger}
    with supervised(dsn, workers=[found.mine], **options) as client:
        assert ended(client, client.insert("x", found.Mine())).result == "done"

    assert any("it was in <module> at hangs_in_spawn.py:" in line for line in lines.of_starts())


def test_w22_an_import_that_hangs_for_all_workers_ends_the_start_and_says_where(
    dsn: str, module: Module, lines: Lines, logger: logging.Logger
) -> None:
    hang = "if IS_CHILD: ctypes.CDLL(None).sleep(600)"
    preload = module("hangs_for_all", hang).__name__
    options = {"preload": [preload], "start_timeout": 2 * LIMIT, "logger": logger}
    with make_client(dsn, **options) as client:
        problem = problem_at_start(client)

    (line,) = lines.of_starts()
    assert "the handlers' modules were not imported within start_timeout (2 s)" in line
    assert f"it was in <module> at {preload}.py:" in line
    assert isinstance(problem, synk.WorkerStartError)
    assert line in str(problem)
    assert f'{preload}.py", line ' in str(problem)


def test_w22_a_hook_that_hangs_in_every_worker_ends_the_start_and_says_where(
    dsn: str, module: Module
) -> None:
    found = module("hangs_always", "def hook(): time.sleep(600)")
    # Long enough for the import before it, which has as long.
    options = {"on_worker_start": found.hook, "start_timeout": 4 * LIMIT, "processes": 5}
    with make_client(dsn, workers=[found.mine], **options) as client:
        problem = problem_at_start(client)

    assert isinstance(problem, synk.WorkerStartError)
    assert "not ready within start_timeout (4 s)" in str(problem)
    assert "it was in hook at hangs_always.py:" in str(problem)


FAILS = """
def hook():
    match times():
        case 1: raise OSError("a long\\nstory")
        case 2: os._exit(3)
        case 3: os.kill(os.getpid(), signal.SIGKILL)
        case 4: ctypes.string_at(8)
"""


def test_w22_each_worker_that_fails_before_it_is_ready_is_told_and_another_one_tried(
    dsn: str, module: Module, lines: Lines, logger: logging.Logger
) -> None:
    found = module("fails", FAILS)
    options = {"on_worker_start": found.hook, "logger": logger, "processes": 5}
    with supervised(dsn, workers=[found.mine], **options) as client:
        assert ended(client, client.insert("x", found.Mine())).result == "done"
        wait_until(lambda: len(lines.of_starts()) == 4)

    begin, end = "a worker process failed before it was ready: ", ". Another one is tried"
    told = [line.removeprefix(begin).removesuffix(end) for line in lines.of_starts()]
    assert sorted(re.sub(r"fails\.py:\d+", "fails.py:N", each) for each in told) == [
        "OSError: a long; story (in hook at fails.py:N)",
        (
            "it died of SIGKILL, which synk did not send; where memory is short this is the "
            "kernel's doing; where it was is not known"
        ),
        "it died of SIGSEGV; it was in hook at fails.py:N",
        "it exited with status 3; where it was is not known",
    ]


def test_a_worker_that_takes_longer_than_usual_is_waited_for_if_the_setting_says_so(
    dsn: str, module: Module, lines: Lines, logger: logging.Logger
) -> None:
    found = module("is_slow", "def hook(): time.sleep(1.3)")
    options = {"on_worker_start": found.hook, "logger": logger, "processes": 1}
    with supervised(dsn, workers=[found.mine], start_timeout=30 * LIMIT, **options) as client:
        assert ended(client, client.insert("x", found.Mine())).result == "done"

    assert lines.of_starts() == []


@pytest.mark.parametrize("limit", [0, 1, 60.0, None, timedelta(0), timedelta(days=2)])
def test_a_start_limit_that_is_none_is_refused_by_name(limit: object) -> None:
    with pytest.raises(synk.ConfigurationError, match="start_timeout"):
        make_client("", storage=synk.PostgresStorage("dbname=x"), start_timeout=limit)
