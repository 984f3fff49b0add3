"""Jobs that weigh something, in real processes: what runs together, where, within what limits."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import synk
from support.jobs import weighing
from support.jobs.weighing import (
    Big,
    Both,
    Eaten,
    Fate,
    Held,
    Looked,
    LookedOfTwo,
    LookedPlainly,
    Model,
    Tenants,
)
from support.supervising import ended, supervised, wait_until
from synk import Cause, JobState
from synk.show import top

CPUS = sorted(os.sched_getaffinity(0))
ROOM: dict[str, Any] = {
    "cores": weighing.CORES,
    "memory": f"{weighing.UNITS * weighing.UNIT_MIB}MiB",
    "processes": weighing.CORES,
}


def lines(folder: Path) -> list[str]:
    log = folder / "log"
    return log.read_text().splitlines() if log.exists() else []


def began(folder: Path, kind: str) -> list[tuple[int, float]]:
    """The pids and the times of the beginnings of jobs of this kind."""
    found = [line.split() for line in lines(folder) if line.startswith(f"{kind} ")]
    return [(int(pid), float(at)) for _, pid, at in found]


def all_ended(client: synk.Client, ids: list[int]) -> Counter[JobState]:
    return Counter(ended(client, job_id).state for job_id in ids)


def test_never_more_runs_than_there_is_room_for_through_kills_and_timeouts(
    dsn: str, tmp_path: Path
) -> None:
    chance = random.Random(5)
    jobs: list[Any] = []
    for number in range(150):
        make = chance.choice([Fate, Fate, Big, Model, Both])
        how = chance.choices(["end", "fail", "die", "hang"], weights=[20, 2, 2, 1])[0]
        how = "end" if make is Fate and how == "hang" else how
        args = make(str(tmp_path), seconds=chance.uniform(0, 0.1), how=how)
        options = synk.InsertOptions(max_retries=0, queue=chance.choice(["a", "b"]))
        jobs.append((f"job {number}", args, options))
    queues = {name: synk.QueueConfig() for name in "ab"}

    with supervised(dsn, workers=weighing.LOCKING, queues=queues, **ROOM) as client:
        ids = client.insert_many(jobs)
        for _ in range(8):
            # Somebody else kills one that has just begun.
            before = len(lines(tmp_path))
            wait_until(lambda before=before: len(lines(tmp_path)) > before + 5)
            for kind in ("both", "big"):
                if found := began(tmp_path, kind):
                    kill(found[-1][0])
        states = all_ended(client, ids)

    assert [line for line in lines(tmp_path) if line.startswith("exceeded")] == []
    assert states[JobState.COMPLETED] > 100
    assert states[JobState.CANCELLED] > 5
    assert set(states) == {JobState.COMPLETED, JobState.CANCELLED}


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_a_heavy_job_begins_beside_a_stream_of_light_ones(dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, workers=weighing.LOCKING, **ROOM) as client:
        client.insert_many([(f"{n}", Fate(str(tmp_path), seconds=0.02)) for n in range(4_000)])
        wait_until(lambda: len(began(tmp_path, "light")) > 40)
        heavy = client.insert("heavy", Big(str(tmp_path)))
        row = ended(client, heavy)
        after = len(began(tmp_path, "light"))
        assert row.attempted_at is not None
        (_, at), *_ = began(tmp_path, "big")
        lights = [when for _, when in began(tmp_path, "light")]
        count = len([when for when in lights if when < at])
        wait_until(lambda: len(began(tmp_path, "light")) > after + 50)

    assert row.state is JobState.COMPLETED
    # By what the machine was busy with: its order shows that the light ones were not over.
    assert 40 < count < 3_900
    assert lines(tmp_path).count("exceeded") == 0


def test_a_job_runs_on_its_cpus_and_the_next_one_on_all(dsn: str) -> None:
    with supervised(dsn, workers=weighing.WORKERS, **{**ROOM, "processes": 1}) as client:
        rows = [
            ended(client, client.insert("look", args))
            for args in (LookedPlainly(), Looked(), LookedPlainly(), LookedOfTwo(), LookedPlainly())
        ]
    plain, of_one, after, of_two, last = (seen(row) for row in rows)

    assert {row.pid for row in rows} == {plain["pid"]}
    assert plain["cpus"] == after["cpus"] == last["cpus"] == CPUS
    assert len(of_one["cpus"]) == 1
    assert of_two["cpus"] == CPUS[:2]
    assert of_one["of_threads"] == of_one["cpus"]
    # The threads of a library, too, that were there while the job ran.
    assert after["of_threads"] == last["of_threads"] == CPUS


def test_blas_uses_as_many_threads_as_the_job_has_cores_and_those_before_after_it(dsn: str) -> None:
    pytest.importorskip("threadpoolctl")
    if len(CPUS) < 2:
        pytest.skip("one CPU: there is nothing to limit")
    with supervised(dsn, workers=weighing.WORKERS, **{**ROOM, "processes": 1}) as client:
        kinds = (LookedPlainly(), Looked(), LookedPlainly(), LookedOfTwo())
        rows = [ended(client, client.insert("look", args)) for args in kinds]
    plain, of_one, after, of_two = (seen(row)["threads"] for row in rows)

    assert plain
    assert set(of_one) == {1}
    assert set(of_two) == {2}
    assert after == plain


def test_a_library_that_a_heavy_job_is_the_first_to_load_does_not_keep_its_threads(
    dsn: str,
) -> None:
    pytest.importorskip("threadpoolctl")
    with supervised(dsn, workers=weighing.WORKERS, **{**ROOM, "processes": 1}) as client:
        rows = [ended(client, client.insert("look", args)) for args in (Looked(), LookedPlainly())]
    first, after = (seen(row) for row in rows)

    assert set(first["threads"]) == {1}
    assert set(after["threads"]) == {len(CPUS)}


def seen(row: synk.JobRow) -> dict[str, Any]:
    assert isinstance(row.result, dict), row.errors
    return row.result


def test_heavy_jobs_that_run_together_have_no_cpu_in_common(dsn: str) -> None:
    if len(CPUS) < 2:
        pytest.skip("one CPU: they cannot run together")
    with supervised(dsn, workers=[weighing.looks], **{**ROOM, "cores": len(CPUS)}) as client:
        ids = client.insert_many([(f"{n}", Looked()) for n in range(20)])
        jobs = [seen(ended(client, job_id)) for job_id in ids]
    together = [
        (one, other)
        for one in jobs
        for other in jobs
        if one is not other and one["during"][0] < other["during"][0] < one["during"][1]
    ]

    assert together
    assert [pair for pair in together if pair[0]["cpus"] == pair[1]["cpus"]] == []


def test_memory_is_the_limit_of_a_job_where_nothing_else_is_said(dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, workers=weighing.WORKERS, **ROOM) as client:
        options = synk.InsertOptions(max_retries=0)
        row = ended(client, client.insert("eat", Eaten(300), options))
        held = ended(client, client.insert("hold", Held(str(tmp_path)), options))

    assert row.errors[0].cause is Cause.MEMORY
    assert "memory of kind eats is 126 MB" in row.errors[0].error
    assert held.state is JobState.COMPLETED, "its own max_rss is larger"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"cores": 2},
            r"workers\['big'\].cores=3: is more than the 2 that this supervisor may use",
        ),
        ({"memory": "250MiB"}, r"workers\['both'\].memory='300MiB': is more than the 250MiB"),
    ],
)
def test_a_kind_that_is_larger_than_what_there_is_is_refused_at_the_start(
    dsn: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(synk.ConfigurationError, match=message):  # noqa: SIM117 - it is what raises
        with supervised(dsn, workers=weighing.LOCKING, **{**ROOM, **settings}):
            pass


def test_the_machine_itself_is_what_there_is_where_nothing_is_said(dsn: str) -> None:
    @synk.worker(memory="900TiB")
    def monstrous(_job: synk.Job[weighing.Eaten]) -> None: ...

    with pytest.raises(synk.ConfigurationError, match="900TiB"):  # noqa: SIM117 - as above
        with supervised(dsn, workers=[monstrous]):
            pass


def test_only_kinds_with_a_weight_are_served_as_well(dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, workers=[weighing.big], **ROOM) as client:
        ids = client.insert_many([(f"{n}", Big(str(tmp_path), seconds=0.01)) for n in range(20)])

        assert all_ended(client, ids) == {JobState.COMPLETED: 20}
    assert lines(tmp_path).count("exceeded") == 0


def test_a_heavy_job_that_is_cancelled_or_drained_leaves_room(dsn: str, tmp_path: Path) -> None:
    grace = {"cancel_grace": timedelta(seconds=0.2)}
    with supervised(dsn, workers=weighing.LOCKING, **ROOM, **grace) as client:
        first = client.insert("first", Big(str(tmp_path), seconds=0.5))
        wait_until(lambda: began(tmp_path, "big"))
        client.cancel(first)
        second = client.insert("second", Big(str(tmp_path)))

        assert ended(client, first).state is JobState.CANCELLED
        assert ended(client, second).state is JobState.COMPLETED
    assert lines(tmp_path).count("exceeded") == 0


def test_a_kind_may_have_a_weight_and_a_limit_beside_a_stream_of_light_jobs(
    dsn: str, tmp_path: Path
) -> None:
    folder = str(tmp_path)
    with supervised(dsn, workers=[weighing.light, weighing.of_a_tenant], **ROOM) as client:
        client.insert_many([(f"{n}", Fate(folder, seconds=0.01)) for n in range(6_000)])
        wait_until(lambda: len(began(tmp_path, "light")) > 40)
        jobs = [(f"{n}", Tenants(folder, tenant="ab"[n % 2])) for n in range(4)]
        ids = client.insert_many(jobs)

        assert all_ended(client, ids) == {JobState.COMPLETED: 4}
    for tenant in "ab":
        steps = [line.split()[0] for line in lines(tmp_path) if line.split()[-1] == tenant]
        assert steps == ["in", "out"] * 2
    assert [line for line in lines(tmp_path) if line.startswith("exceeded")] == []


def test_what_jobs_weigh_is_seen_while_they_run(dsn: str, tmp_path: Path) -> None:
    with supervised(dsn, workers=weighing.LOCKING, **ROOM) as client:
        job_id = client.insert("seen", Both(str(tmp_path), seconds=0.6))
        wait_until(lambda: began(tmp_path, "both"))
        running = [slot for slot in client.running() if slot.job_id is not None]
        ended(client, job_id)

    assert [(slot.cores, slot.memory) for slot in running] == [(2, 300 << 20)]
    assert top._weight(running) == ", 2 cores and 315 MB taken"
    assert top._weight([]) == ""
