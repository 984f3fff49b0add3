"""``synk queues`` and its verbs, ``synk drain``, and what ``synk top`` says of pauses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import synk
from support.commands import run
from support.jobs import handlers
from support.supervising import SupervisorProcess, is_running, make_client, wait_until

OPTIONS = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 2}"


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn, queues=None, workers=()) as client:
        yield client


def listed(dsn: str) -> dict[str, dict[str, Any]]:
    shown = run("queues", "--json", dsn=dsn)
    assert shown.returncode == 0, shown.stderr
    return {row["queue"]: row for row in json.loads(shown.stdout)}


def test_queues_are_listed_with_what_waits_runs_and_is_said_of_them(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with SupervisorProcess(dsn, OPTIONS) as supervisor:
        running = client.insert("x", handlers.Slow(str(gate)))
        wait_until(lambda: is_running(client, running))
        assert run(
            "queues", "pause", "default", "--wait", "20s", "--by", "ann", dsn=dsn
        ).stdout == ("paused default: no job of it can begin, 1 run still\n")
        for _ in range(3):
            client.insert("y", handlers.Noop())
        client.insert("z", handlers.Noop(), synk.InsertOptions(queue="nobody's"))
        client.queues.resize("default", 7)

        wait_until(lambda: listed(dsn)["default"]["supervisors"][0]["is_in_force"])
        rows = listed(dsn)
        table = run("queues", dsn=dsn).stdout
        top = run("top", "--once", dsn=dsn).stdout
        gate.touch()

    row = rows["default"]
    assert (row["available"], row["running"]) == (3, 1)
    assert row["oldest_due_s"] > 0
    assert (row["paused"]["value"], row["paused"]["by"]) == (True, "ann")
    assert row["max_workers"]["value"] == 7
    (served,) = row["supervisors"]
    assert (served["id"], served["max_workers"]["value"]) == (supervisor.tag, 7)
    assert rows["nobody's"]["supervisors"] == []
    assert re.search(r"default +3 +1 +\S+ \S+ +7 +1 supervisor +by ann, .* ago", table), table
    assert re.search(r"nobody's +1 +0 +\S+ \S+ +as configured +nobody\n", table), table
    assert re.search(r"default +3 +1 +1 supervisor +by ann", top), top


def test_without_a_pause_top_has_no_column_for_it(client: synk.Client, dsn: str) -> None:
    client.insert("x", handlers.Noop())
    assert "paused" not in run("top", "--once", dsn=dsn).stdout


def test_a_pause_that_is_not_in_force_in_time_is_one_line_and_status_1(
    client: synk.Client, dsn: str
) -> None:
    with SupervisorProcess(dsn, OPTIONS) as dead:
        wait_until(client.storage.standings)
        dead.process.kill()
        dead.wait()
    done = run("queues", "pause", "default", "--wait", "100ms", dsn=dsn)

    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"synk: queue default is paused, but .*{dead.tag}.*\n", done.stderr)
    assert listed(dsn)["default"]["paused"]


def test_a_queue_that_nobody_serves_can_be_paused_and_a_line_says_so(
    client: synk.Client, dsn: str
) -> None:
    done = run("queues", "pause", "reports", dsn=dsn)

    assert done.returncode == 0
    assert done.stdout == "paused reports: no job of it begins from now on\n"
    assert done.stderr == "synk: no supervisor serves queue reports; it holds for those that will\n"
    assert run("queues", "resume", "*", dsn=dsn).stdout == "resumed *\n"
    assert client.storage.settings().rows == []


def test_a_queue_is_resized_and_left_to_its_configuration_again(
    client: synk.Client, dsn: str
) -> None:
    client.insert("x", handlers.Noop())
    run("queues", "resize", "default", "3", dsn=dsn)
    assert listed(dsn)["default"]["max_workers"]["value"] == 3

    run("queues", "resize", "default", "configured", dsn=dsn)
    assert listed(dsn)["default"]["max_workers"] is None


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["pause", "a", "--wait", "soon"], "--wait='soon'"),
        (["resize", "a", "0"], "max_workers=0"),
        (["resize", "a", "many"], "NUMBER='many'"),
        (["pause", "a", "--supervisor", "x"], "supervisor='x'"),
        (["pause", ""], "queue=''"),
    ],
)
def test_a_wrong_word_is_one_line_and_status_2(dsn: str, words: list[str], problem: str) -> None:
    done = run("queues", *words, dsn=dsn)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"synk: {problem}")
    assert done.stderr.count("\n") == 1


def test_where_nothing_is_there_is_nothing_to_list(dsn: str) -> None:
    assert run("queues", dsn=dsn).stdout == "no queues: no supervisor runs, and no job waits\n"
    assert run("queues", "--json", dsn=dsn).stdout == "[]\n"


def test_a_supervisor_is_told_to_stop(client: synk.Client, dsn: str) -> None:
    with SupervisorProcess(dsn, OPTIONS) as supervisor:
        wait_until(client.storage.standings)
        told = run("drain", supervisor.tag, dsn=dsn)
        assert supervisor.wait()[0] == 0
    again = run("drain", supervisor.tag, dsn=dsn)

    assert (told.returncode, told.stdout) == (0, f"supervisor {supervisor.tag} was told to stop\n")
    assert (again.returncode, again.stderr) == (1, f"synk: no supervisor {supervisor.tag} runs\n")
