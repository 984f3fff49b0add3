from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest

import synk
from synk.insertion import JobOptions
from synk.row import check_label

AWARE = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def test_the_defaults_are_the_originals() -> None:
    options = JobOptions()

    assert options.queue == "default"
    assert options.priority is synk.Priority.MEDIUM
    assert options.max_retries == 6
    assert options.scheduled_at is None
    assert options.depends_on == ()
    assert options.pending is False


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("priority", 0),
        ("priority", 5),
        ("priority", True),
        ("priority", "high"),
        ("queue", ""),
        ("queue", "   "),
        ("queue", "q" * 128),
        ("queue", "a\nb"),
        ("queue", "a\x00"),
        ("queue", 7),
        ("max_retries", -1),
        ("max_retries", 1.5),
        ("max_retries", True),
        ("scheduled_at", dt.datetime(2026, 1, 1)),  # noqa: DTZ001 - that is what is refused
        ("scheduled_at", "tomorrow"),
        ("depends_on", [0]),
        ("depends_on", ["1"]),
        ("depends_on", 5),
        ("depends_on", "12"),
        ("depends_on", [2**63]),
        ("pending", "yes"),
    ],
)
def test_p9_a_wrong_option_names_its_field_and_its_value(field: str, value: Any) -> None:
    with pytest.raises(synk.InvalidJob) as caught:
        synk.InsertOptions(**{field: value})

    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}=")


def test_dependencies_are_kept_once_each_in_order() -> None:
    assert synk.InsertOptions(depends_on=[3, 1, 3]).depends_on == (3, 1)  # type: ignore[arg-type]


def test_a_priority_may_be_given_as_its_number() -> None:
    assert synk.InsertOptions(priority=1).priority is synk.Priority.CRITICAL  # type: ignore[arg-type]


def test_a_label_of_127_characters_fits() -> None:
    assert check_label("name", "x" * 127)


def test_a_kind_is_checked_when_its_class_is_made() -> None:
    with pytest.raises(synk.InvalidJob, match="kind=''"):

        class Bad(synk.JobArgs, kind=""):
            pass


def test_a_kind_survives_a_dataclass_with_slots() -> None:
    @dataclass(slots=True)
    class Slotted(synk.JobArgs, kind="slotted"):
        n: int = 0

    assert Slotted.kind == "slotted"


def test_final_states_are_completed_and_cancelled() -> None:
    assert {state for state in synk.JobState if state.is_final} == {"completed", "cancelled"}


def test_a_long_value_is_shortened_in_an_error() -> None:
    with pytest.raises(synk.InvalidJob) as caught:
        check_label("name", "x" * 10_000)

    assert len(str(caught.value)) < 300
