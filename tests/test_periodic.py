"""What may be said of a periodic job, and how it is stored."""

from __future__ import annotations

import dataclasses
import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

import synk
from synk.insertion import InsertOptions, JobOptions
from synk.periodic import Periodic, check_periodic
from synk.tick_key import key_of

HOUR: Final = dt.timedelta(hours=1)


@dataclass
class Report(synk.JobArgs, kind="report"):
    of: str = "all"
    tags: set[str] = field(default_factory=set)


def nightly(**said: Any) -> Periodic:
    return Periodic(**{"name": "nightly", "when": "30 2 * * *", "args": Report(), **said})


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("name", ""),
        ("name", "x" * 128),
        ("name", 3),
        ("tz", "Berlin"),
        ("when", dt.timedelta(milliseconds=999)),
        ("when", dt.timedelta(days=40_000)),
        ("missed", "some"),
        ("max_late", dt.timedelta(0)),
        ("max_late", 60),
        ("jitter", -HOUR),
        ("jitter", dt.timedelta(days=2)),
        ("overlap", "never"),
        ("missed", "all"),
        ("options", {"queue": "slow"}),
    ],
)
def test_what_cannot_be_is_refused_by_its_field(field_name: str, value: object) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        nightly(**{field_name: value})

    assert (caught.value.field, caught.value.value) == (field_name, value)


@pytest.mark.parametrize("value", ["0 0 30 2 *", "*/61 * * * *", "0 30 2 * * *", 60, None])
def test_what_never_comes_or_is_no_expression_is_refused_as_cron(value: object) -> None:
    with pytest.raises(synk.ConfigurationError) as caught:
        nightly(when=value)

    assert (caught.value.field, caught.value.value) == ("cron", value)


def test_options_that_cannot_be_those_of_each_job_are_refused() -> None:
    """Whatever options there are: only those that are stored may be given."""
    given: dict[str, Any] = {
        "scheduled_at": dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
        "pending": True,
        "depends_on": (1,),
        "idempotency_key": "k", "unique": synk.Unique(),
    }  # fmt: skip
    stored = {"queue", "priority", "max_retries", "tags", "meta", "start_before", "keep"}
    assert given.keys() | stored == {each.name for each in dataclasses.fields(InsertOptions)}
    for name, value in given.items():
        with pytest.raises(synk.ConfigurationError, match="is not for each job") as caught:
            nightly(options=InsertOptions(**{name: value}))
        assert caught.value.field == f"options.{name}"


def test_a_time_to_begin_before_that_is_the_same_for_all_jobs_is_refused() -> None:
    at = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    with pytest.raises(synk.ConfigurationError, match="give a timedelta"):
        nightly(options=InsertOptions(start_before=at))


def test_arguments_that_no_job_could_have_are_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match=r"nightly.*has no class attribute kind"):
        check_periodic([nightly(args=object())], {})


def test_what_is_none_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match=r"must be a synk\.Periodic"):
        check_periodic(["nightly"], {})  # pyright: ignore[reportArgumentType]
    with pytest.raises(synk.ConfigurationError, match="names two of them"):
        check_periodic([nightly(), nightly(when="@daily")], {})


def test_a_definition_has_what_is_said_and_the_options_of_its_jobs() -> None:
    options = InsertOptions(
        queue="slow",
        priority=synk.Priority.HIGH,
        max_retries=2,
        tags=["a"],
        meta={"b": [1]},
        start_before=HOUR,
        keep=2 * HOUR,
    )

    found = nightly(tz="Europe/Berlin", max_late=6 * HOUR, options=options).definition({})

    assert (found.cron, found.every, found.tz) == ("30 2 * * *", None, "Europe/Berlin")
    assert (found.kind, found.queue, found.priority, found.max_attempts) == ("report", "slow", 2, 3)
    assert (found.start_within, found.keep) == (HOUR, 2 * HOUR)
    assert (found.tags, found.meta) == (("a",), '{"b":[1]}')
    assert (found.missed, found.max_late, found.overlap) == ("one", 6 * HOUR, "skip")


def test_what_inserts_of_its_kind_default_to_holds_for_its_jobs_too() -> None:
    """So does all that an insert does: of river issue 675, whose hooks were skipped."""
    defaults = {"report": JobOptions(queue="slow", max_retries=1)}

    found = nightly(options=InsertOptions(max_retries=3)).definition(defaults)

    assert (found.queue, found.max_attempts) == ("slow", 4)


def test_an_interval_has_no_zone() -> None:
    found = nightly(when=HOUR, tz="Europe/Berlin").definition({})

    assert (found.cron, found.every, found.tz) == (None, HOUR, "UTC")


def test_the_hash_is_of_all_that_is_said() -> None:
    first = nightly().definition({})
    changes: dict[str, Any] = {
        "name": "other", "cron": "@daily", "every": HOUR, "tz": "Asia/Tokyo", "kind": "other",
        "args": "{}", "queue": "slow", "priority": 1, "max_attempts": 1, "tags": ("a",),
        "meta": "{}", "start_within": HOUR, "keep": HOUR, "limit_name": "a",
        "limit_path": ("of",), "missed": "none", "max_late": HOUR,
        "jitter": HOUR, "overlap": "allow",
    }  # fmt: skip
    hashes = {dataclasses.replace(first, **{name: value}).hash for name, value in changes.items()}

    assert changes.keys() == {each.name for each in dataclasses.fields(first)}
    assert len({first.hash, *hashes}) == len(changes) + 1


def test_the_hash_of_arguments_with_sets_is_the_same_in_each_process() -> None:
    one, other = {"a", "b", "c", "d"}, {"d", "c", "b", "a"}

    hashes = {nightly(args=Report(tags=tags)).definition({}).hash for tags in (one, other)}

    assert len(hashes) == 1


def test_the_key_of_a_tick_is_the_same_in_each_zone_and_fits_the_longest_name() -> None:
    tick = dt.datetime.fromisoformat("2026-03-29T03:00+02:00")

    assert key_of("nightly", tick) == "periodic:nightly:2026-03-29T01:00:00+00:00"
    assert key_of("nightly", tick.astimezone(dt.UTC)) == key_of("nightly", tick)
    assert len(key_of("x" * 127, tick)) <= 255
