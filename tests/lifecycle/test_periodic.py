"""Periodic jobs from the declaration to the handler, with real supervisors that come and go."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import random
import re
import signal
import time
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

import synk
from support.jobs import ticking
from support.model import ModelStorage
from support.supervising import SupervisorProcess, make_client, supervised, wait_until
from synk import Change
from synk.periodic import Schedule
from synk.storage.postgres import PostgresStorage
from synk.tick_key import key_of, tick_of

SECOND: Final = dt.timedelta(seconds=1)
HOUR: Final = dt.timedelta(hours=1)


def every(seconds: float = 1.0, **said: Any) -> synk.Periodic:
    given: dict[str, Any] = {"overlap": "allow", **said}
    args = given.pop("args", ticking.Note("/dev/null"))
    return synk.Periodic("often", seconds * SECOND, args, **given)


def the_one(client: synk.Client) -> Schedule:
    (schedule,) = client.periodic.list()
    return schedule


def test_the_handler_finds_the_tick_also_when_it_is_tried_again(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    periodic = [every(args=ticking.Note(str(log), fails=1), overlap="skip")]

    with supervised(dsn, periodic=periodic, workers=ticking.WORKERS) as client:
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)

    first, second, *_ = (json.loads(line) for line in log.read_text().splitlines())
    assert (first["attempt"], second["attempt"]) == (1, 2)
    assert first["id"] == second["id"]
    job = client.get(first["id"])
    assert job is not None
    tick = tick_of(job.idempotency_key)
    assert tick is not None
    assert first["tick"] == second["tick"] == tick.isoformat()
    assert dt.timedelta(0) <= job.created_at - tick < 2 * SECOND


def test_other_jobs_have_no_tick_whatever_their_key(dsn: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    keys = (None, "key", "periodic:often:yesterday", "periodic:", "periodic:a:b:2026-01-01")
    with supervised(dsn, workers=ticking.WORKERS) as client:
        for key in keys:
            options = synk.InsertOptions(idempotency_key=key, meta={"a": 1})
            client.insert("x", ticking.Note(str(log)), options)
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) == len(keys))

    assert {json.loads(line)["tick"] for line in log.read_text().splitlines()} == {None}


def test_the_tick_of_a_name_with_colons_is_read() -> None:
    tick = dt.datetime(2026, 3, 29, 1, tzinfo=dt.UTC)

    assert tick_of(key_of("a:b:2026-01-01T00:00:00", tick)) == tick


def test_a_job_at_hand_has_no_tick_in_a_test_of_its_handler() -> None:
    assert synk.Job(None, ticking.Note("x"), "me").tick is None


def test_the_verbs_of_the_client(dsn: str) -> None:
    with make_client(dsn) as client:
        answers = [client.periodic.add(every(3600)), client.periodic.add(every(3600))]
        changes = [
            client.periodic.pause("often"), client.periodic.pause("often"),
            client.periodic.resume("often"), client.periodic.pause("other"),
        ]  # fmt: skip
        job_id = client.periodic.run_now("often")
        nothing = client.periodic.run_now("other")
        found = the_one(client)
        changes += [client.periodic.remove("often"), client.periodic.remove("often")]
        left = client.periodic.list()
        assert job_id is not None
        job = client.get(job_id)

    assert answers == [True, None]
    assert changes == [
        Change.APPLIED, Change.REFUSED, Change.APPLIED, Change.GONE, Change.APPLIED, Change.GONE,
    ]  # fmt: skip
    assert (found.name, found.last_job_id, found.undeclared) == ("often", job_id, False)
    assert (nothing, left) == (None, [])
    assert job is not None
    assert tick_of(job.idempotency_key) is not None


def test_the_jobs_of_a_kind_with_a_limit_have_its_key(dsn: str) -> None:
    limited = [ticking.note_limited]
    with make_client(dsn, workers=limited) as client:
        client.periodic.add(synk.Periodic("l", SECOND, ticking.NoteLimited("a")))
        client.periodic.run_now("l")
        with supervised(dsn, workers=limited):
            wait_until(lambda: the_one(client).last_at)
    with psycopg.connect(dsn) as connection:
        keys = connection.execute("SELECT DISTINCT limit_key FROM synk.job").fetchall()

    assert keys == [("tenants:a",)]


def test_the_verbs_are_awaited_too(dsn: str) -> None:
    async def use() -> list[Any]:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as client:
            answers: list[Any] = [await client.periodic.add(every(3600))]
            answers += [await client.periodic.pause("often"), await client.periodic.resume("often")]
            job_id = await client.periodic.run_now("often")
            assert job_id is not None
            assert await client.get(job_id) is not None
            answers += [[each.name for each in await client.periodic.list()]]
            answers += [await client.periodic.remove("often"), await client.periodic.list()]
            return answers

    assert asyncio.run(use()) == [
        True, Change.APPLIED, Change.APPLIED, ["often"], Change.APPLIED, [],
    ]  # fmt: skip


def test_what_cannot_be_is_refused_before_anything_is_stored(dsn: str) -> None:
    storage: Any = PostgresStorage(dsn)
    with pytest.raises(synk.ConfigurationError, match="names two of them"):
        synk.Client(storage=storage, periodic=[every(), every()])

    class Bare:
        ping = insert = get_job_available = update_job_state = close = lambda self: None

    bare: Any = Bare()
    with pytest.raises(synk.ConfigurationError, match="keeps no periodic jobs"):
        synk.Client(storage=bare, periodic=[every()])
    with pytest.raises(synk.ConfigurationError, match="keeps no periodic jobs"):
        synk.Client(storage=bare).periodic.list()
    assert synk.Client(storage=ModelStorage(), periodic=[every()])


def test_a_pause_is_heard_of_and_what_is_paused_makes_nothing_up(dsn: str) -> None:
    with supervised(dsn, periodic=[every()], workers=ticking.WORKERS) as client:
        wait_until(lambda: client.periodic.list() and the_one(client).runs >= 2)
        client.periodic.pause("often")
        paused = the_one(client)
        wait_until(lambda: _now(dsn) > paused.next_at + 2 * SECOND if paused.next_at else False)
        still = the_one(client)
        client.periodic.resume("often")
        resumed = the_one(client)
        again = wait_until(lambda: s if (s := the_one(client)).runs > paused.runs else None)

    assert still.runs == paused.runs
    assert again.last_at > resumed.since
    assert again.skipped == paused.skipped


def _now(dsn: str) -> dt.datetime:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return row[0]


def test_a_schedule_of_a_storage_without_any_is_heard_of_when_it_is_added(dsn: str) -> None:
    with (
        supervised(dsn, workers=ticking.WORKERS) as client,
        make_client(dsn) as other,
    ):
        wait_until(lambda: client.storage.clients(within=HOUR))
        other.periodic.add(every())
        wait_until(lambda: the_one(other).runs >= 1)


def test_two_versions_of_the_code_run_and_the_last_to_start_is_right(dsn: str) -> None:
    old, new = [every(1)], [every(2)]
    with supervised(dsn, periodic=old, workers=ticking.WORKERS) as client:
        wait_until(lambda: client.periodic.list() and the_one(client).runs)
        with supervised(dsn, periodic=new, workers=ticking.WORKERS):
            changed = wait_until(lambda: s if (s := the_one(client)).every == 2 * SECOND else None)
            wait_until(lambda: the_one(client).runs >= changed.runs + 3)
            last = the_one(client)

    assert last.version == changed.version, "nobody has changed it back"
    ticks = sorted(_ticks(client))
    of_new = [tick for tick in ticks if tick > changed.since]
    assert all((tick - changed.since) % (2 * SECOND) == dt.timedelta(0) for tick in of_new)
    assert len(set(ticks)) == len(ticks)


def _ticks(client: synk.Client) -> list[dt.datetime]:
    storage: Any = client.storage
    jobs = storage.jobs(state=None, queue=None, kind=None, limit=100_000)
    return [tick for job in jobs if (tick := tick_of(job.idempotency_key)) is not None]


def test_what_only_an_old_version_declared_is_shown_as_undeclared_and_goes_on(dsn: str) -> None:
    with supervised(dsn, periodic=[every()], workers=ticking.WORKERS) as client:
        wait_until(lambda: client.periodic.list() and the_one(client).runs)
        assert not the_one(client).undeclared
    with supervised(dsn, workers=ticking.WORKERS) as client:
        found = wait_until(lambda: s if (s := the_one(client)).undeclared else None)
        wait_until(lambda: the_one(client).runs > found.runs)


def test_ticks_without_a_supervisor_are_one_job_and_one_line(dsn: str) -> None:
    """A deploy that falls on ticks, and a clock's hours of catch-up."""
    with supervised(dsn, periodic=[every(overlap="skip")], workers=ticking.WORKERS) as client:
        wait_until(lambda: client.periodic.list() and the_one(client).runs)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE synk.periodic SET next_at = next_at - interval '5 hours'")
    before = the_one(client)

    lines: list[str] = []
    logger = logging.getLogger("of a deploy")
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    options: dict[str, Any] = {"workers": ticking.WORKERS, "logger": logger}
    with supervised(dsn, periodic=[every(overlap="skip")], **options) as client:
        wait_until(lambda: the_one(client).runs > before.runs)
        found = wait_until(lambda: [line for line in lines if "missed" in line])

    assert len(found) == 1
    assert re.search(r"periodic job often: 1[78]\d{3} ticks skipped, .* missed", found[0])
    assert the_one(client).skipped >= 5 * 3600 - 10


@pytest.mark.parametrize("seed", [1, 2])
def test_eight_supervisors_that_are_killed_and_stopped_have_each_tick_once(
    dsn: str, seed: int
) -> None:
    """Each tick is one job, or was skipped and counted, whoever was there."""
    chance = random.Random(seed)
    options = (
        "{'periodic': [__import__('synk').Periodic('often', __import__('datetime').timedelta("
        "seconds=1), __import__('support.jobs.ticking', fromlist=['x']).Note('/dev/null'),"
        " overlap='allow')], 'workers': __import__('support.jobs.ticking', fromlist=['x']).WORKERS,"
        " 'processes': 1}"
    )
    with make_client(dsn, workers=ticking.WORKERS) as client:
        running = [SupervisorProcess(dsn, options) for _ in range(8)]
        try:
            first = wait_until(lambda: client.periodic.list() and the_one(client))
            until = time.monotonic() + 25
            while time.monotonic() < until:
                place = chance.randrange(8)
                running[place].signal(chance.choice([signal.SIGKILL, signal.SIGTERM]))
                running[place].wait()
                running[place] = SupervisorProcess(dsn, options)
            now = the_one(client)
            wait_until(lambda: the_one(client).runs > now.runs + 2)
        finally:
            for each in running:
                each.signal(signal.SIGKILL)
                each.wait()
        client.periodic.pause("often")
        last = the_one(client)
        ticks = sorted(_ticks(client))

    assert last.since == first.since
    assert last.next_at is not None
    total = (last.next_at - last.since) // SECOND - 1
    assert len(ticks) == len(set(ticks)) == last.runs
    assert last.runs + last.skipped == total
    assert last.runs >= 15
    assert all((tick - last.since) % SECOND == dt.timedelta(0) for tick in ticks)
