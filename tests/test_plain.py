"""What Python's values become as JSON: results, progress and checkpoints."""

from __future__ import annotations

import collections
import datetime as dt
import json
import threading
import types
import uuid
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pydantic
import pytest

import synk
from synk.plain import json_text

NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone.utc)


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit


class Whole(int):
    def __int__(self) -> int:
        raise SystemExit


class Real(float):
    def __float__(self) -> float:
        raise SystemExit


class Time(dt.datetime):
    pass


class Size(IntEnum):
    SMALL = 1


class Both(Enum):
    PAIR = (1, 2)
    NUMPY = np.int64(3)


class Pair(NamedTuple):
    a: int
    b: int


@dataclass
class Data:
    n: Any


class Struct(msgspec.Struct):
    n: Any


class Model(pydantic.BaseModel):
    at: dt.datetime


class Exits:
    def __float__(self) -> float:
        raise SystemExit

    def __repr__(self) -> str:
        raise SystemExit


class Items(collections.UserList[int]):
    def __iter__(self) -> Any:
        raise SystemExit


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Text("a"), "a"),
        (Whole(3), 3),
        (Real(1.5), 1.5),
        (Time(2026, 1, 1, 12, tzinfo=dt.timezone.utc), "2026-01-01T12:00:00Z"),
        (Size.SMALL, 1),
        (Both.PAIR, [1, 2]),
        (Both.NUMPY, 3),
        (Pair(1, 2), [1, 2]),
        (Data(Struct(np.int8(1))), {"n": {"n": 1}}),
        (Model(at=NOON), {"at": "2026-01-01T12:00:00Z"}),
        ({1: "a", None: "b", Text("t"): "d"}, {"1": "a", "null": "b", "t": "d"}),
        ({np.int64(2): 1}, {"2": 1}),
        (collections.deque([1]), [1]),
        (range(2), [0, 1]),
        ({1: 2}.values(), [2]),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({3}, [3]),
        (b"ab", "YWI="),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 2), 0.5),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/a"), "/a"),
        (dt.timedelta(seconds=90), "PT90S"),
        (float("nan"), None),
        ([float("inf")], [None]),
        (np.float64("nan"), None),
        (np.float32(1.5), 1.5),
        (np.bool_(True), True),
        (np.array(5), 5),
        (np.arange(3), [0, 1, 2]),
        (np.longdouble(2.5), 2.5),
        (np.datetime64("2026-01-01T12:00:00.000000000"), "2026-01-01T12:00:00"),
        (np.datetime64("NaT"), None),
        (pd.Series([1, 2]).mean(), 1.5),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"a": [1, 2]}), [{"a": 1}, {"a": 2}]),
        ([pd.NA, pd.NaT], [None, None]),
        (pd.Timestamp(NOON), "2026-01-01T12:00:00Z"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_stored_by_the_rule(value: Any, expected: Any) -> None:
    assert json.loads(json_text(value)) == expected


@pytest.mark.parametrize(
    "value",
    [
        threading.Lock(),
        (n for n in [1]),
        len,
        object,
        Exits(),
        Items([1]),
        1j,
        {(1, 2): 3},
        np.zeros(10**6),
        "\ud800",
        "\x00",
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_place_in_json_is_said_whatever_it_raises(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|NUL"):
        json_text(value)


def test_a_list_in_itself_is_not_json() -> None:
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="is not JSON"):
        json_text(endless)


@pytest.mark.parametrize(
    ("done", "noted"),
    [
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (Fraction(1, 2), 0.5),
        (Decimal("1.5"), 1.5),
        (2**60, 2**60),
        (Whole(3), 3),
    ],
)
def test_progress_takes_numbers_of_any_kind(done: Any, noted: float) -> None:
    job = synk.Job[Any](None, None, "me")

    job.progress(done, 10)

    assert json.loads(job._attempt.progress or b"") == {"done": noted, "total": 10, "note": ""}


@pytest.mark.parametrize("value", [Exits(), float("nan"), "3", None, True, 10**400, object(), 1j])
def test_no_progress_fails_a_job_and_the_output_says_so_once(
    value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    job = synk.Job[Any](None, None, "me")

    for _ in range(3):
        job.progress(value)
        job.progress(1, 10, value)

    assert job._attempt.progress is not None
    assert capsys.readouterr().err.count("synk: not noted: done=") == 1


@pytest.mark.parametrize("value", [Exits(), threading.Lock(), "x" * 70_000, "\ud800"])
def test_no_checkpoint_fails_a_job_and_the_one_before_it_stays(
    value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    job = synk.Job[Any](None, None, "me")

    job.checkpoint({"page": 1})
    for _ in range(3):
        job.checkpoint(value)

    assert job._attempt.checkpoint == b'{"page":1}'
    assert capsys.readouterr().err.count("synk: not noted: checkpoint=") == 1
