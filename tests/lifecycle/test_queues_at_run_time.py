"""Queues that are paused, resumed and resized while they run, and supervisors told to stop."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

import synk
from support.facts import Facts
from support.jobs import handlers
from support.proxy import Proxy
from support.supervising import (
    SupervisorProcess,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)
from synk import JobState, telemetry
from synk.queue_words import PAUSED, QueueWords
from synk.setting import SettingChange
from synk.status import SlotStatus

TTL = timedelta(seconds=6)
WAIT = timedelta(seconds=20)
SHORT = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 2}"
A_MOMENT_S = 0.7
"""In which, idle, many jobs would begin."""


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    """A producer."""
    with make_client(dsn, queues=None, workers=()) as client:
        yield client


def insert_short(client: synk.Client, log: Path, count: int = 300, sleep_s: float = 0.01) -> None:
    client.insert_many([("x", handlers.Write(str(log), "x", sleep_s)) for _ in range(count)])


def begun(log: Path) -> int:
    return len(log.read_text().split()) if log.exists() else 0


def is_served(client: synk.Client, count: int = 1) -> bool:
    return len(client.storage.standings()) == count


def states(client: synk.Client) -> dict[JobState, int]:
    return client.storage.counts()


# -- pausing --------------------------------------------------------------------------------------


def test_nothing_begins_after_a_pause_has_returned_and_what_ran_finishes(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """OptimalBits/bull#447: a job starts after pause returned."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    running = client.insert("x", handlers.Slow(str(gate)))
    insert_short(client, log)
    with supervised(dsn):
        wait_until(lambda: begun(log) > 20 and is_running(client, running))

        paused = client.queues.pause("default", wait=WAIT)
        before = begun(log)
        assert paused.is_in_force
        assert 1 <= paused.running <= 2
        assert before < 300, "there was nothing left to begin"

        gate.touch()
        assert ended(client, running).attempt == 1
        time.sleep(A_MOMENT_S)
        assert begun(log) == before
        # What had not begun went back, uncharged.
        assert states(client) == {JobState.COMPLETED: before + 1, JobState.AVAILABLE: 300 - before}
        found = client.storage.jobs(state=JobState.AVAILABLE, queue=None, kind=None, limit=500)
        rows = client.storage.get([row.id for row in found])
        assert {(len(row.errors), row.attempt - row.uncounted) for row in rows} == {(0, 0)}


def test_a_pause_holds_for_supervisors_that_start_later_and_no_restart_ends_it(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """cloudamqp/lavinmq#446: pause gone after restart."""
    log = tmp_path / "log"
    client.queues.pause("default", wait=WAIT)
    insert_short(client, log, count=5)
    for _ in range(2):
        with supervised(dsn):
            wait_until(lambda: is_served(client))
            time.sleep(A_MOMENT_S)
    assert begun(log) == 0

    with supervised(dsn):
        client.queues.resume("default")
        wait_until(lambda: begun(log) == 5)


def test_jobs_of_a_dead_supervisor_go_back_to_a_paused_queue_and_stay_there(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """OptimalBits/bull#247: recovered jobs ignore pause."""
    log = tmp_path / "log"
    with SupervisorProcess(dsn, SHORT) as dead:
        job_id = client.insert("x", handlers.Once(str(log)))
        wait_until(lambda: begun(log) == 1)
        client.queues.pause("default")
        dead.signal(signal.SIGKILL)
        dead.wait()

    with supervised(dsn, lease_ttl=TTL):
        wait_until(lambda: (row := client.get(job_id)) and row.state is JobState.AVAILABLE)
        # Scheduled ones become available, and do not begin either.
        later = client.insert(
            "x",
            handlers.Write(str(log)),
            synk.InsertOptions(scheduled_at=client_now(client) + timedelta(seconds=0.5)),
        )
        wait_until(lambda: (row := client.get(later)) and row.state is JobState.AVAILABLE)
        time.sleep(A_MOMENT_S)
        assert begun(log) == 1

        client.queues.resume("default")
        assert ended(client, job_id).state is JobState.COMPLETED
        assert ended(client, later).state is JobState.COMPLETED


def client_now(client: synk.Client) -> datetime:
    job = client.get(client.insert("now", handlers.Noop(), synk.InsertOptions(pending=True)))
    assert job is not None
    client.delete(job.id)
    return job.created_at


def test_pausing_and_resuming_twice_is_as_once(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """riverqueue/river PR 408: pausing twice is an error."""
    log = tmp_path / "log"
    with supervised(dsn):
        for _ in range(2):
            client.queues.pause("default", wait=WAIT)
        insert_short(client, log, count=3)
        for _ in range(2):
            client.queues.resume("default")
        wait_until(lambda: begun(log) == 3)


def test_a_resumed_queue_starts_at_once(client: synk.Client, dsn: str, tmp_path: Path) -> None:
    """riverqueue/river PR 854: resume waits for a poll."""
    config = synk.QueueConfig(time_fetch=timedelta(minutes=10))
    log = tmp_path / "log"
    with supervised(dsn, queues={"default": config}):
        wait_until(lambda: is_served(client))
        took_s: list[float] = []
        for round_ in range(1, 6):
            client.queues.pause("default", wait=WAIT)
            client.insert("x", handlers.Write(str(log)))
            began = time.monotonic()
            client.queues.resume("default")
            wait_until(lambda: begun(log) == round_)  # noqa: B023
            took_s.append(time.monotonic() - began)

    assert min(took_s) < 0.05, took_s


def test_a_limited_queue_that_is_resumed_is_claimed_from_again(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """oban-bg/oban#1019: unpaused limited queue never fetches."""
    log = tmp_path / "log"
    with supervised(dsn, queues={"default": synk.QueueConfig(max_workers=1)}):
        insert_short(client, log, count=40)
        wait_until(lambda: begun(log) > 3)
        client.queues.pause("default", wait=WAIT)
        client.queues.resume("default")
        wait_until(lambda: begun(log) == 40)


def test_all_queues_are_paused_at_once_and_one_of_them_may_go_on(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    logs = {name: tmp_path / name for name in ("a", "b")}
    queues = {name: synk.QueueConfig() for name in logs}
    with supervised(dsn, queues=queues):
        wait_until(lambda: is_served(client))
        client.queues.pause("*", wait=WAIT)
        for name, log in logs.items():
            client.insert("x", handlers.Write(str(log)), synk.InsertOptions(queue=name))
        client.queues.resume("a")
        wait_until(lambda: begun(logs["a"]) == 1)
        time.sleep(A_MOMENT_S)
        assert begun(logs["b"]) == 0

        client.queues.resume("*")
        wait_until(lambda: begun(logs["b"]) == 1)


def test_a_queue_is_paused_on_one_supervisor_alone(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with supervised(dsn) as first, supervised(dsn) as second:
        wait_until(lambda: is_served(client, 2))
        client.queues.pause("default", supervisor=str(first.id), wait=WAIT)
        insert_short(client, log, count=30)
        wait_until(lambda: begun(log) == 30)
        rows = client.storage.jobs(state=None, queue=None, kind=None, limit=50)
        ids = [client.get(row.id) for row in rows]
        assert {row.attempted_by[-1] for row in ids if row} == {str(second.id)}


def test_a_queue_that_nobody_serves_can_be_paused(client: synk.Client) -> None:
    paused = client.queues.pause("nobody's", wait=WAIT)

    assert paused == synk.Paused(running=0, is_in_force=True)
    word = QueueWords(client.storage.settings()).paused("nobody's", None)
    assert word is not None
    assert "@" in word.by
    assert word.at >= client_now(client) - timedelta(minutes=1)


def test_who_pauses_can_say_so(client: synk.Client) -> None:
    client.queues.pause("a", by="the release")
    client.queues.pause("a", by="somebody later")

    word = QueueWords(client.storage.settings()).paused("a", None)
    assert word is not None
    assert word.by == "the release"


# -- supervisors that are in no state to answer ----------------------------------------------------


def test_a_pause_waits_for_the_lease_of_a_killed_supervisor(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with SupervisorProcess(dsn, SHORT) as dead:
        insert_short(client, log, count=300)
        wait_until(lambda: begun(log) > 5)
        dead.signal(signal.SIGKILL)
        dead.wait()
    before = begun(log)

    with pytest.raises(synk.PauseNotInForce, match=rf"paused.*{dead.tag}"):
        client.queues.pause("default", wait=timedelta(seconds=0.2))
    paused = client.queues.pause("default", wait=WAIT)

    assert paused.is_in_force
    assert begun(log) == before


def test_nothing_begins_on_a_frozen_supervisor_once_the_pause_is_in_force(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    """Its worker is not frozen, and has jobs that were taken to be short and have not begun."""
    log = tmp_path / "log"
    short, long = [("x", handlers.Write(str(log), text, s)) for text, s in (("x", 0.001), ("l", 3))]
    client.insert_many([short] * 500 + [long] * 100)
    with SupervisorProcess(dsn, SHORT.replace("2}", "1}")) as frozen:
        wait_until(lambda: log.exists() and "l" in log.read_text())
        frozen.signal(signal.SIGSTOP)

        paused = client.queues.pause("default", wait=WAIT)

        before = begun(log)
        assert paused.is_in_force
        assert before > 501, "its worker has had nothing left"
        time.sleep(4.0)
        assert begun(log) == before
        frozen.signal(signal.SIGCONT)
        # It comes back, under its old id or a new one, and knows.
        wait_until(lambda: states(client).get(JobState.RUNNING, 0) == 0)
        wait_until(lambda: any(each.left_s > 0 for each in client.storage.standings()))
        time.sleep(A_MOMENT_S)
        assert begun(log) == before


def test_nothing_begins_on_a_supervisor_that_was_cut_off_when_it_comes_back(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    insert_short(client, log, count=3000, sleep_s=0.05)
    with Proxy(dsn) as proxy, supervised(proxy.dsn, lease_ttl=TTL) as cut:
        facts = Facts(cut)
        wait_until(lambda: begun(log) > 5)
        proxy.stand_still()
        paused = client.queues.pause("default", wait=WAIT)
        before = begun(log)
        assert paused.is_in_force
        proxy.flow()
        facts.wait_for(telemetry.StorageRecovered, loop="renewing the lease")
        time.sleep(2.0)
        assert begun(log) == before


def test_a_pause_that_somebody_ends_while_it_is_waited_for_says_so(
    client: synk.Client, dsn: str, connection: psycopg.Connection
) -> None:
    """Or a fail-over has lost it."""
    with SupervisorProcess(dsn, SHORT) as frozen:
        wait_until(lambda: is_served(client))
        frozen.signal(signal.SIGSTOP)
        with make_client(dsn, queues=None, workers=()) as other:
            steps = iter([lambda: other.queues.resume("default")])

            def resume_once() -> None:
                next(steps, lambda: None)()

            storage = client.storage
            ask = storage.standings
            storage.standings = lambda: (resume_once(), ask())[1]
            with pytest.raises(synk.PauseNotInForce, match="resumed by somebody else"):
                client.queues.pause("default", wait=WAIT)


# -- sizes ----------------------------------------------------------------------------------------


def test_a_queue_is_resized_up_and_down_while_it_runs(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    gates = [tmp_path / str(n) for n in range(6)]
    with supervised(dsn, processes=3, queues={"default": synk.QueueConfig(max_workers=2)}):
        for gate in gates:
            client.insert("x", handlers.Slow(str(gate)))

        def running() -> int:
            return sum(slot.job_id is not None for slot in slots(client))

        wait_until(lambda: running() == 2)
        client.queues.resize("default", 3)
        wait_until(lambda: running() == 3)
        client.queues.resize("default", max_workers=1)
        for gate in gates[:2]:
            gate.touch()
        wait_until(lambda: states(client).get(JobState.COMPLETED) == 2)
        wait_until(lambda: running() == 1)
        time.sleep(A_MOMENT_S)
        assert states(client)[JobState.RUNNING] == 1

        client.queues.resize("default", None)
        wait_until(lambda: running() == 2)
        for gate in gates:
            gate.touch()


def slots(client: synk.Client) -> list[SlotStatus]:
    """What runs; nothing while the supervisor is not known yet."""
    running = [each for each in client.storage.clients(timedelta(hours=1)) if each.runs]
    return [slot for each in running for slot in each.slots]


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("queue", lambda queues: queues.pause("")),
        ("queue", lambda queues: queues.resume(7)),
        ("wait", lambda queues: queues.pause("a", wait=5)),
        ("max_workers", lambda queues: queues.resize("a", 0)),
        ("max_workers", lambda queues: queues.resize("a", True)),
        ("max_workers", lambda queues: queues.resize("a", 70_000)),
        ("supervisor", lambda queues: queues.pause("a", supervisor="x")),
        ("supervisor", lambda queues: queues.pause("a", supervisor="0" * 26)),
    ],
)
def test_a_wrong_value_is_refused_with_its_field_and_nothing_is_said(
    client: synk.Client, field: str, call: Callable[[Any], object]
) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        call(client.queues)

    assert caught.value.field == field
    assert client.storage.settings().rows == []


def test_a_storage_without_settings_says_so() -> None:
    class Own:
        ping = insert = get_job_available = update_job_state = close = lambda *_: None

    own: Any = Own()
    with pytest.raises(synk.ConfigurationError, match="has no settings"):
        synk.Client(storage=own).queues.pause("a")


# -- draining -------------------------------------------------------------------------------------


def test_a_supervisor_is_told_to_stop_from_elsewhere(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    running = client.insert("x", handlers.Slow(str(gate)))
    with SupervisorProcess(dsn, SHORT) as stopped, supervised(dsn, processes=1) as other:
        client.insert("y", handlers.Slow(str(tmp_path / "never")))
        wait_until(lambda: is_running(client, running))
        assert client.drain_supervisor(stopped.tag)
        assert client.drain_supervisor(stopped.tag), "said twice, it is not hurried"
        gate.touch()
        code, out, _ = stopped.wait()
        assert (code, out.split()) == (0, ["returned"])
        assert not client.drain_supervisor(stopped.tag), "it is gone"
        assert other.storage.standings()[0].id == other.id.to_uuid()
        (tmp_path / "never").touch()
    assert ended(client, running).attempt == 1


def test_a_supervisor_that_missed_the_notification_stops_with_its_next_beat(
    client: synk.Client, dsn: str
) -> None:
    options = SHORT.replace(
        "}", ", 'storage': synk.PostgresStorage(sys.argv[1], pooler='transaction')}"
    )
    with SupervisorProcess(dsn, options) as stopped:
        wait_until(lambda: is_served(client))
        client.drain_supervisor(stopped.tag)
        assert stopped.wait()[0] == 0


# -- asyncio, and other hands ----------------------------------------------------------------------


def test_the_same_verbs_are_there_awaited(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def main(tag: str) -> synk.Paused:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            await client.queues.resize("default", 5)
            paused = await client.queues.pause("default", wait=WAIT)
            await client.insert("x", handlers.Write(str(log)))
            await client.queues.resume("*")
            await asyncio.to_thread(wait_until, lambda: begun(log))
            assert await client.drain_supervisor(tag)
            return paused

    with SupervisorProcess(dsn, SHORT) as supervisor:
        paused = asyncio.run(main(supervisor.tag))
        assert supervisor.wait()[0] == 0

    assert paused.is_in_force


def test_a_pause_that_was_written_by_hand_holds(
    client: synk.Client, dsn: str, tmp_path: Path, connection: psycopg.Connection
) -> None:
    log = tmp_path / "log"
    connection.execute(
        "INSERT INTO synk.setting (scope, name, value) VALUES ('queue:default', 'paused', 'true')"
    )
    with supervised(dsn, lease_ttl=TTL):
        insert_short(client, log, count=3)
        wait_until(lambda: is_served(client))
        time.sleep(A_MOMENT_S)
        assert begun(log) == 0
        connection.execute("DELETE FROM synk.setting")
        wait_until(lambda: begun(log) == 3)


def test_nonsense_in_the_settings_stops_nobody(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    client.storage.change_settings(
        [
            SettingChange("queue:default", PAUSED, ["?"]),
            SettingChange("supervisor:nobody:queues", PAUSED, True),
            SettingChange("queue:default", "max_workers", -3),
        ]
    )
    with supervised(dsn):
        insert_short(client, log, count=3)
        wait_until(lambda: begun(log) == 3)
