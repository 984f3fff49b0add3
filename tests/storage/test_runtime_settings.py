"""What a storage does with settings that change while supervisors run: PostgreSQL and the model."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from support.model import ModelStorage
from synk.setting import SettingChange, of_supervisor
from synk.storage.postgres import PostgresStorage
from synk.storage.settings import RuntimeSettings
from synk.testing.making import NOW, OTHER, OWNER, register, status_of

PAUSED = SettingChange("queue:a", "paused", {"value": True, "by": "ann"})


@pytest.fixture(params=["postgres", "model"])
def store(request: pytest.FixtureRequest) -> Any:
    made = request.getfixturevalue("storage") if request.param == "postgres" else ModelStorage()
    assert isinstance(made, RuntimeSettings)
    return made


def values(store: RuntimeSettings) -> dict[tuple[str, str], object]:
    return {(each.scope, each.name): each.value for each in store.settings().rows}


def test_settings_are_made_changed_and_removed(store: RuntimeSettings) -> None:
    store.change_settings([PAUSED, SettingChange("queue:b", "max_workers", 5)])
    assert values(store) == {
        ("queue:a", "paused"): {"value": True, "by": "ann"},
        ("queue:b", "max_workers"): 5,
    }

    store.change_settings([SettingChange("queue:a", "paused"), SettingChange("q", "none")])
    store.change_settings([SettingChange("queue:b", "max_workers", 7)])
    assert values(store) == {("queue:b", "max_workers"): 7}


def test_each_change_has_a_later_revision_and_the_beat_brings_it(
    store: PostgresStorage | ModelStorage,
) -> None:
    register(store, OWNER)
    before = store.settings().revision

    store.change_settings([PAUSED])

    after = store.settings().revision
    with store.heartbeat(OWNER) as heartbeat:
        beat = heartbeat.beat()
    assert after > before
    assert beat is not None
    assert beat.revision == after


def test_a_setting_that_stays_as_it_is_keeps_its_time(store: RuntimeSettings) -> None:
    store.change_settings([PAUSED])
    (before,) = store.settings().rows
    store.change_settings([PAUSED])

    assert store.settings().rows == [before]
    assert before.changed_at.year >= 2025


def test_only_the_settings_that_hold_can_be_said_to_be_in_force(
    store: PostgresStorage | ModelStorage,
) -> None:
    register(store, OWNER)
    former = store.settings()
    store.change_settings([PAUSED])
    present = store.settings()

    assert not store.report_in_force(OWNER, former)
    assert [each.revision for each in store.standings()] == [0]
    assert store.report_in_force(OWNER, present)
    assert [each.revision for each in store.standings()] == [present.revision]
    assert not store.report_in_force(OTHER, present)


def test_a_revision_that_a_fail_over_lost_is_not_taken_for_another_with_its_number(
    dsn: str, storage: PostgresStorage, connection: Any
) -> None:
    register(storage, OWNER)
    storage.change_settings([PAUSED])
    lost = storage.settings()
    connection.execute("DELETE FROM synk.setting")
    storage.change_settings([SettingChange("queue:b", "paused", {"value": True})])
    connection.execute("UPDATE synk.revision SET number = %s", [lost.revision])

    assert storage.settings().revision == lost.revision
    assert not storage.report_in_force(OWNER, lost)
    assert storage.report_in_force(OWNER, storage.settings())


def test_standings_are_those_that_may_still_own_jobs(
    store: PostgresStorage | ModelStorage,
) -> None:
    register(store, OWNER, NOW)
    store.register_client(status_of(OTHER), timedelta(seconds=20))
    late, alive = sorted(store.standings(), key=lambda each: each.left_s)

    assert (late.id, alive.id) == (OWNER, OTHER)
    assert late.left_s <= 0
    assert 19 < alive.left_s <= alive.ttl_s == 20
    assert list(alive.queues) == ["default", "slow"]

    store.declare_dead(store.leases())
    assert [each.id for each in store.standings()] == [OTHER]


def test_settings_of_a_supervisor_go_once_it_has_ended(
    store: PostgresStorage | ModelStorage,
) -> None:
    register(store, OWNER)
    register(store, OTHER)
    own = [SettingChange(of_supervisor(each, "queues"), "paused", 1) for each in (OWNER, OTHER)]
    store.change_settings(own)
    store.report_client(status_of(OWNER, stopped=True))

    store.change_settings([PAUSED])

    scopes = [each.scope for each in store.settings().rows]
    assert scopes == ["queue:a", of_supervisor(OTHER, "queues")]


def test_a_change_is_announced(store: PostgresStorage | ModelStorage) -> None:
    with store.announcements(OWNER) as announcements:
        store.change_settings([PAUSED])
        hints = announcements.wait(10.0)

    assert hints.settings
    assert not hints.queues
    assert not hints.requests
