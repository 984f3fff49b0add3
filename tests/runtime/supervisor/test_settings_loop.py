"""Supervisors work by the settings that the storage has, and say so."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest

import synk
from support.model import ModelStorage
from support.supervising import supervised, wait_until
from synk.core.ownership import OwnLease
from synk.errors import StorageUnavailable
from synk.runtime.supervisor.lease_loop import LeaseLoop
from synk.runtime.supervisor.settings_loop import SettingsLoop
from synk.setting import SettingChange, Settings
from synk.storage.settings import RuntimeSettings
from synk.telemetry import Telemetry
from synk.testing.making import OWNER, register

CHANGE = SettingChange("queue:elsewhere", "paused", {"value": True})


def is_in_force(storage: RuntimeSettings) -> bool:
    revision = storage.settings().revision
    return [each.revision for each in storage.standings()] == [revision]


def test_a_running_supervisor_has_a_change_in_force_at_once(dsn: str) -> None:
    with supervised(dsn) as client:
        wait_until(lambda: len(client.storage.standings()) == 1)
        client.storage.change_settings([CHANGE])
        # No beat comes so soon: they are 5 s apart.
        wait_until(lambda: is_in_force(client.storage), seconds=3.0)


def test_without_an_announcement_it_has_it_with_the_next_beat(
    dsn: str, connection: psycopg.Connection
) -> None:
    with supervised(dsn, lease_ttl=timedelta(seconds=6)) as client:
        wait_until(lambda: len(client.storage.standings()) == 1)
        connection.execute(
            "INSERT INTO synk.setting (scope, name, value) VALUES ('queue:a', 'paused', 'true')"
        )
        wait_until(lambda: is_in_force(client.storage))


def test_behind_a_pooler_that_lets_no_announcement_through_too(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn, pooler="transaction")
    with supervised(dsn, storage=storage, lease_ttl=timedelta(seconds=6)):
        wait_until(lambda: len(storage.standings()) == 1)
        storage.change_settings([CHANGE])
        wait_until(lambda: is_in_force(storage))


def test_what_was_set_before_is_in_force_from_the_start(dsn: str) -> None:
    storage = synk.PostgresStorage(dsn)
    storage.change_settings([CHANGE])
    with supervised(dsn, storage=storage):
        wait_until(lambda: storage.standings() and is_in_force(storage))


# -- the loop alone -------------------------------------------------------------------------------


class Watched(ModelStorage):
    """Does something before a reading is answered."""

    before: Callable[[], object] = staticmethod(lambda: None)
    after: Callable[[], object] = staticmethod(lambda: None)

    def settings(self) -> Settings:
        self.before()
        settings = super().settings()
        self.after()
        return settings


def made(storage: ModelStorage) -> tuple[SettingsLoop, list[Settings]]:
    register(storage, OWNER)
    loop = SettingsLoop(storage, OWNER, Telemetry(), wake=lambda: None)
    applied: list[Settings] = []
    loop.subscribe(applied.append)
    return loop, applied


def rest(loop: SettingsLoop) -> None:
    while loop.step(0.0) != math.inf:
        pass


def test_a_loop_rests_while_nothing_changes() -> None:
    storage = ModelStorage()
    loop, applied = made(storage)

    assert loop.step(0.0) == math.inf
    loop.noticed(0)
    assert loop.step(0.0) == math.inf
    assert applied == []


def test_a_new_revision_is_applied_once_and_told_when_all_say_that_it_is_in_force() -> None:
    storage = ModelStorage()
    loop, applied = made(storage)
    answers = iter([False, False, True])
    loop.subscribe(lambda _: None, lambda: next(answers))
    storage.change_settings([CHANGE])

    loop.noticed(storage.settings().revision)
    pauses = [loop.step(0.0) for _ in range(3)]
    assert [each.rows[0].value for each in applied] == [{"value": True}]
    assert 0.0 < pauses[1] == pauses[2] < 0.1
    assert not is_in_force(storage)

    rest(loop)
    assert is_in_force(storage)


def test_what_was_changed_before_the_report_is_read_again() -> None:
    storage = ModelStorage()
    loop, applied = made(storage)

    def change_once() -> bool:
        if len(applied) == 1:
            storage.change_settings([CHANGE])
        return True

    loop.subscribe(lambda _: None, change_once)
    loop.read_soon()
    storage.change_settings([SettingChange("queue:b", "paused", 1)])

    rest(loop)

    assert is_in_force(storage)
    assert len(applied) == 2


def test_an_older_answer_that_comes_late_is_not_applied() -> None:
    storage = Watched()
    loop, applied = made(storage)

    def read_by_another() -> None:
        storage.after = lambda: None
        storage.change_settings([CHANGE])
        loop.refresh()

    storage.after = read_by_another
    loop.refresh()

    assert [len(each.rows) for each in applied] == [1]


def test_a_reading_that_fails_is_tried_again() -> None:
    storage = Watched()
    loop, applied = made(storage)

    def fail() -> None:
        storage.before = lambda: None
        raise StorageUnavailable("away")

    storage.before = fail
    storage.change_settings([CHANGE])
    loop.read_soon()

    assert 0 < loop.step(0.0) < 1
    rest(loop)
    assert len(applied) == 1
    assert is_in_force(storage)


# -- a lease that was over ------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["succeeds", "fails"])
def test_a_lease_that_was_over_is_taken_up_only_with_the_settings_of_that_moment(
    reading: str,
) -> None:
    """Who waited for a pause did not wait for this supervisor: it must know before it goes on."""
    storage = ModelStorage()
    register(storage, OWNER)
    lease = OwnLease(30.0)
    lease.renewed(0.0)
    seen: list[float] = []

    def regain() -> None:
        seen.append(lease.left_s(100.0))
        if reading == "fails":
            raise StorageUnavailable("away")

    def nothing(*_: object) -> None:
        pass

    loop = LeaseLoop(
        storage,
        OWNER,
        lease,
        Telemetry(),
        on_beat=nothing,
        on_return=nothing,
        on_regaining=regain,
        on_newer_schema=nothing,
        on_lost=nothing,
        clock=lambda: 100.0,
    )
    loop.step(100.0)
    loop.step(100.0)

    assert seen[0] < 0
    assert (lease.left_s(100.0) > 0) == (reading == "succeeds")
