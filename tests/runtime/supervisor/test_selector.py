"""What the engine's loop waits for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from synk.runtime.supervisor.selector import READABLE, WRITABLE, Selector


@pytest.fixture
def selector() -> Iterator[Selector]:
    selector = Selector()
    yield selector
    selector.close()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def turn(selector: Selector) -> None:
    selector.wait(0)
    selector.call_ready()


def test_what_is_ready_is_called_until_it_is_forgotten(selector: Selector) -> None:
    heard: list[str] = []
    with pipe() as (reading, writing):
        selector.watch(reading, lambda: heard.append("a pipe"))
        turn(selector)
        os.write(writing, b"x")
        turn(selector)
        turn(selector)
        selector.forget(reading)
        turn(selector)

    assert heard == ["a pipe", "a pipe"]


def test_what_is_forgotten_while_it_is_ready_is_not_called_nor_is_what_gets_its_number(
    selector: Selector,
) -> None:
    """The death of one process must not be taken for that of the next."""
    heard: list[str] = []
    with pipe() as one, pipe() as other:

        def exchange() -> None:
            heard.append("one of two")
            for reading, _ in (one, other):
                selector.forget(reading)
                selector.watch(reading, lambda: heard.append("another"))

        for reading, writing in (one, other):
            selector.watch(reading, exchange)
            os.write(writing, b"x")
        turn(selector)

    assert heard == ["one of two"]


def test_other_events_can_be_looked_for(selector: Selector) -> None:
    heard: list[str] = []
    with pipe() as (_, writing):
        selector.watch(writing, lambda: heard.append("room"), READABLE)
        turn(selector)
        selector.modify(writing, READABLE | WRITABLE)
        turn(selector)
        selector.forget(writing)
        selector.modify(writing, READABLE)

    assert heard == ["room"]


def test_what_is_due_is_called_once_and_in_its_turn(selector: Selector) -> None:
    called: list[str] = []
    selector.call_at(3.0, lambda: called.append("late"))
    selector.call_at(1.0, lambda: called.append("first"))
    selector.call_at(1.0, lambda: called.append("second"))

    assert selector.next_at() == 1.0
    selector.call_due(2.0)
    selector.call_due(2.0)
    assert called == ["first", "second"]
    assert selector.next_at() == 3.0
    selector.call_due(3.0)
    assert selector.next_at() is None
