"""Jobs that fail while they hold something, and jobs that look what is still held."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support.jobs.acts import ActJob, deed
from synk.runtime.ipc import linux

HELD: dict[str, weakref.ref[Thing]] = {}
LOCK = threading.Lock()


class Thing:
    """Something that can be watched."""

    def __init__(self, way: str) -> None:
        HELD[way] = weakref.ref(self)
        self.other: object = None


def _raise(text: str, thing: Thing) -> None:
    raise ValueError(text)


def _plain(thing: Thing) -> None:
    _raise("plain", thing)


def _saved(thing: Thing) -> None:
    """Keeps the exception where it was raised: a circle of the job's own."""
    try:
        _raise("saved", thing)
    except ValueError as error:
        kept = error
        raise kept from None


def _saved_in_itself(thing: Thing) -> None:
    try:
        _raise("saved", thing)
    except ValueError as error:
        thing.other = error
        raise


def _cause(thing: Thing) -> None:
    try:
        _raise("first", thing)
    except ValueError as error:
        raise LookupError("second") from error


def _hidden_context(thing: Thing) -> None:
    try:
        _raise("first", thing)
    except ValueError:
        raise LookupError("second") from None


def _group(thing: Thing) -> None:
    errors: list[Exception] = []
    for text in ("one", "two"):
        try:
            _raise(text, thing)
        except ValueError as error:
            errors.append(error)
    raise ExceptionGroup("both", errors)


def _numbers(thing: Thing) -> Iterator[int]:
    try:
        yield 1
    finally:
        thing.other = "closed"


def _generator(thing: Thing) -> None:
    numbers = _numbers(thing)
    next(numbers)
    _raise("generator", thing)


def _circle(thing: Thing) -> None:
    thing.other = thing
    _raise("circle", thing)


def _exit(thing: Thing) -> None:
    raise SystemExit(3)


WAYS: dict[str, Callable[[Thing], None]] = {
    "plain": _plain,
    "saved": _saved,
    "saved in itself": _saved_in_itself,
    "cause": _cause,
    "hidden context": _hidden_context,
    "group": _group,
    "generator": _generator,
    "circle": _circle,
    "exit": _exit,
}


@deed
def fail_holding(job: ActJob) -> None:
    thing = Thing(job.args.text)
    WAYS[job.args.text](thing)


@deed
def succeed_holding(job: ActJob) -> None:
    thing = Thing(job.args.text)
    thing.other = job


@deed
def look_at_held(job: ActJob) -> list[str]:
    return [way for way, thing in HELD.items() if thing() is not None]


@deed
def fail_with_file(job: ActJob) -> None:
    file = Path(job.args.path).open("w")  # noqa: SIM115 - that is the deed
    file.write("written")
    raise ValueError("the file is still open")


class _Holding:
    """Takes the lock, and lets it go at its end."""

    def __init__(self) -> None:
        LOCK.acquire()

    def __del__(self) -> None:
        LOCK.release()


@deed
def fail_with_lock(job: ActJob) -> None:
    held = _Holding()
    raise ValueError(f"with {held!r}")


@deed
def look_at_lock(job: ActJob) -> bool:
    return LOCK.locked()


@deed
def fail_with_memory(job: ActJob) -> None:
    """Of *number* MB, as one block or as many small objects, perhaps in a circle."""
    held: Any = bytearray(b"x" * (job.args.number << 20))
    if job.args.text:
        held = [[index] for index in range(job.args.number << 13)]
    if job.args.text == "circle":
        held.append(held)
    raise ValueError(f"holding {type(held)}")


@deed
def tell_memory(job: ActJob) -> int:
    return linux.resident_bytes(os.getpid())
