"""What was said of queues, and which word counts."""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.model import ModelStorage
from synk.queue_words import ALL, MAX_WORKERS, PAUSED, QueueWords
from synk.setting import Setting, SettingChange, Settings
from synk.testing.making import OTHER, OWNER, register

QUEUES = ("a", "b")
SUPERVISORS = (OWNER, OTHER)


def storage_of() -> ModelStorage:
    storage = ModelStorage()
    for owner in SUPERVISORS:
        register(storage, owner)
    return storage


def say(
    storage: ModelStorage, name: str, value: Any, queue: str, owner: UUID | None = None
) -> None:
    words = QueueWords(storage.settings())
    changes = words.saying(name, value, queue=queue, supervisor=owner, by="ann")
    if changes:
        storage.change_settings(changes)


def paused(storage: ModelStorage, owner: UUID = OWNER) -> str:
    words = QueueWords(storage.settings())
    return "".join(queue for queue in QUEUES if words.paused(queue, owner))


def test_all_are_paused_but_the_one_that_is_resumed_after_that() -> None:
    storage = storage_of()
    say(storage, PAUSED, True, ALL)
    assert paused(storage) == "ab"

    say(storage, PAUSED, False, "a")
    assert paused(storage) == "b"

    say(storage, PAUSED, True, ALL)
    assert paused(storage) == "ab"


def test_resuming_all_resumes_each_and_leaves_no_word() -> None:
    storage = storage_of()
    for queue, owner in itertools.product(("a", ALL), (None, OWNER)):
        say(storage, PAUSED, True, queue, owner)

    say(storage, PAUSED, False, ALL)

    assert storage.settings().rows == []


def test_a_pause_for_all_supervisors_holds_for_one_that_was_excepted_before() -> None:
    storage = storage_of()
    say(storage, PAUSED, True, "a")
    say(storage, PAUSED, False, ALL, OWNER)
    assert (paused(storage, OWNER), paused(storage, OTHER)) == ("", "a")

    say(storage, PAUSED, True, "a")

    assert (paused(storage, OWNER), paused(storage, OTHER)) == ("a", "a")


def test_a_word_that_is_said_again_stays_with_who_said_it_first() -> None:
    storage = storage_of()
    say(storage, PAUSED, True, "a")
    before = storage.settings()

    changes = QueueWords(before).saying(PAUSED, True, queue="a", supervisor=None, by="bob")

    assert changes == []


def test_a_size_for_one_supervisor_goes_before_that_for_all_until_that_is_said_anew() -> None:
    storage = storage_of()
    say(storage, MAX_WORKERS, 20, "a")
    say(storage, MAX_WORKERS, 5, "a", OWNER)
    words = QueueWords(storage.settings())
    assert [words.max_workers("a", each) for each in SUPERVISORS] == [5, 20]

    say(storage, MAX_WORKERS, None, "a", OWNER)
    words = QueueWords(storage.settings())
    assert [words.max_workers("a", each) for each in SUPERVISORS] == [None, 20]

    say(storage, MAX_WORKERS, None, "a")
    assert storage.settings().rows == []


@pytest.mark.parametrize(
    ("name", "value", "last"),
    [
        (PAUSED, True, True),
        (PAUSED, {"value": True}, True),
        (PAUSED, False, None),
        (PAUSED, "yes", None),
        (PAUSED, {"value": 1}, None),
        (PAUSED, [], None),
        (MAX_WORKERS, 7, 7),
        (MAX_WORKERS, 0, None),
        (MAX_WORKERS, True, None),
        (MAX_WORKERS, 65536, None),
        (MAX_WORKERS, {"value": 3, "order": "x"}, 3),
    ],
)
def test_what_others_have_written_counts_if_it_can_be_understood(
    name: str, value: object, last: object
) -> None:
    words = QueueWords(Settings(1, [Setting("queue:a", name, value)]))

    word = words.last(name, "a", OWNER)

    assert (word and word.value) == last


def test_scopes_that_are_of_no_queue_are_passed_over() -> None:
    rows = [Setting(scope, PAUSED, True) for scope in ("supervisor:", "supervisor:x:queue:a", "a")]
    words = QueueWords(Settings(1, rows))

    assert [words.paused(queue, OWNER) for queue in (*QUEUES, "x:queue:a")] == [None, None, None]


SAID = st.tuples(
    st.booleans(),
    st.sampled_from([*QUEUES, ALL]),
    st.sampled_from([None, *SUPERVISORS]),
)


@given(st.lists(SAID, max_size=12))
def test_the_last_word_counts(said: list[tuple[bool, str, UUID | None]]) -> None:
    storage = storage_of()
    for value, queue, owner in said:
        say(storage, PAUSED, value, queue, owner)

    words = QueueWords(storage.settings())
    for queue, owner in itertools.product(QUEUES, SUPERVISORS):
        meant = [v for v, q, o in said if q in (queue, ALL) and o in (owner, None)]
        assert bool(words.paused(queue, owner)) is bool(meant and meant[-1]), (queue, owner)
    # No more words than there is something to say.
    assert len(storage.settings().rows) <= len(said)


def test_a_change_of_one_queue_is_one_row() -> None:
    words = QueueWords(Settings(41))

    changes = words.saying(PAUSED, True, queue="a", supervisor=None, by="ann")

    assert changes == [
        SettingChange("queue:a", "paused", {"value": True, "by": "ann", "order": 42})
    ]
