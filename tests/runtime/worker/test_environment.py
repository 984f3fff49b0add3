"""What a worker process is given: its environment, its limits, its rights, its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import synk
from support.acting import acting, error_of, run
from support.jobs import faults
from synk import JobState

SECRET = "a word that workers must not see"
NICE = os.getpriority(os.PRIO_PROCESS, 0)
CPUS = sorted(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("starts") / "log"


@pytest.fixture(scope="module")
def client(shared_dsn: str, starts: Path) -> Iterator[synk.Client]:
    """With one worker, and all that can be said of it."""
    queues = {
        "default": synk.QueueConfig(),
        "low": synk.QueueConfig(nice=7),
        "last": synk.QueueConfig(cpus=CPUS[-1:]),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNK_TEST_LOG", str(starts))
        patch.setenv("SYNK_TEST_SECRET", SECRET)
        with acting(
            shared_dsn,
            processes=1,
            queues=queues,
            worker_env=["PATH", "HOME", "SYNK_TEST_LOG", "NO_SUCH_VARIABLE"],
            on_worker_start=faults.notes_start,
            rlimits={"NOFILE": 1234, "CORE": 0},
        ) as client:
            yield client


def surroundings(client: synk.Client, queue: str = "default") -> dict[str, Any]:
    row = run(client, "surroundings", queue=queue, text=SECRET)
    assert row.state is JobState.COMPLETED
    assert isinstance(row.result, dict)
    return row.result


def test_x6_workers_get_the_variables_that_are_allowed_and_no_other(client: synk.Client) -> None:
    seen = surroundings(client)

    given = {"PATH", "HOME", "SYNK_TEST_LOG", "SYNK_TEST_STARTED", "SYNK_SUPERVISOR"}
    # What Python itself sets where the locale is C.
    assert set(seen["environment"]) - {"LC_CTYPE"} == given & set(seen["environment"])
    assert {"PATH", "SYNK_TEST_LOG"} <= set(seen["environment"])
    assert (seen["of the kernel"], seen["of a child"]) == (0, 0)


def test_without_a_list_workers_get_the_whole_environment(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNK_TEST_SECRET", SECRET)
    monkeypatch.setenv("SYNK_DATABASE_URL", dsn)
    with acting(dsn, processes=1, no_new_privileges=False) as client:
        seen = surroundings(client)

    assert {"SYNK_TEST_SECRET", "SYNK_DATABASE_URL"} <= set(seen["environment"])
    assert seen["no new privileges"] is False


def test_x7_workers_can_gain_no_privileges(client: synk.Client) -> None:
    assert surroundings(client)["no new privileges"] is True


def test_x7_workers_have_the_limits_that_were_named(client: synk.Client) -> None:
    seen = surroundings(client)

    assert seen["descriptors"][0] == 1234
    assert seen["core"] == 0


def test_a_queue_can_make_its_jobs_nicer_and_the_next_job_is_not(client: synk.Client) -> None:
    before, low, after = (surroundings(client, queue) for queue in ("default", "low", "default"))

    assert (before["nice"], low["nice"], after["nice"]) == (NICE, min(19, NICE + 7), NICE)


def test_a_queue_can_name_the_cpus_of_its_jobs_and_the_next_job_has_all(
    client: synk.Client,
) -> None:
    before, last, after = (surroundings(client, queue) for queue in ("default", "last", "default"))

    assert (before["cpus"], last["cpus"], after["cpus"]) == (CPUS, CPUS[-1:], CPUS)


def test_each_worker_runs_the_hook_once_before_its_first_job(
    client: synk.Client, starts: Path
) -> None:
    first = run(client, "surroundings", text=SECRET)
    assert error_of(run(client, "os_exit", number=1)).exit_code == 1
    second = run(client, "surroundings", text=SECRET)
    third = run(client, "surroundings", text=SECRET)

    for row in (first, second, third):
        assert isinstance(row.result, dict)
        assert row.result["started"] == str(row.pid)
    assert second.pid == third.pid != first.pid
    assert starts.read_text().split()[-2:] == [str(first.pid), str(second.pid)]
