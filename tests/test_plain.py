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
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, NamedTuple, TypedDict

import attrs
import msgspec
import numpy as np
import pandas as pd
import polars as pl
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


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    size: int = pydantic.Field(default=1, alias="Size")


class Many(pydantic.RootModel[list[int]]):
    pass


@attrs.define
class Attrs:
    n: Any
    _hidden: int = 2


class Renamed(msgspec.Struct, rename="camel", tag="kind"):
    first_name: str


class Fields(TypedDict):
    n: int


class Word(StrEnum):
    ONE = "one"


class Flags(Flag):
    A = 1
    B = 2


class Kept(dict[str, int]):
    pass


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
        (Attrs(np.int64(2)), {"n": 2}),
        (Aliased(Size=3), {"size": 3}),
        (Aliased.model_validate({"Size": 3, "other": np.int64(2)}), {"size": 3, "other": 2}),
        (Many([1]), [1]),
        (Renamed("a"), {"type": "kind", "firstName": "a"}),
        (Fields(n=1), {"n": 1}),
        (Word.ONE, "one"),
        (Flags.A | Flags.B, 3),
        (frozenset({1}), [1]),
        ({1: 2}.keys(), [1]),
        (bytearray(b"ab"), "YWI="),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
        (collections.UserDict(a=1), {"a": 1}),
        (Kept(a=1), {"a": 1}),
        ({Word.ONE: 1, Both.NUMPY: 2}, {"one": 1, "3": 2}),
        ({dt.date(2026, 1, 1): 1}, {"2026-01-01": 1}),
        ({1.5: 1, -2: 2}, {"1.5": 1, "-2": 2}),
        ([2**53 + 1, 2**64, -(2**70)], [2**53 + 1, 2**64, -(2**70)]),
        ("\\u0000", "\\u0000"),
        (dt.date(2026, 1, 1), "2026-01-01"),
        (dt.time(12, 30), "12:30:00"),
        (Decimal("1E+1000"), "1E+1000"),
        (np.str_("a"), "a"),
        (np.eye(2), [[1, 0], [0, 1]]),
        (np.array([np.nan, 1]), [None, 1]),
        (np.ma.array([1, 2], mask=[False, True]), [1, None]),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.timedelta64(90, "s"), "PT90S"),
        (np.timedelta64(5), 5),
        (np.datetime64("2026-01-01"), "2026-01-01T00:00:00"),
        (np.array(["2026-01-01", "NaT"], dtype="M8[ns]"), ["2026-01-01T00:00:00", None]),
        (pd.Timedelta("90s"), "PT90S"),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.to_datetime(pd.Series(["2026-01-01", None])), ["2026-01-01T00:00:00", None]),
        (pd.DataFrame([[1, 2]]), [{"0": 1, "1": 2}]),
        (pl.Series([1, 2]).mean(), 1.5),
        (pl.Series([1, None]), [1, None]),
        (pl.Series([[1], [2, 3]]), [[1], [2, 3]]),
        (pl.Series([NOON]).max(), "2026-01-01T12:00:00Z"),
        (pl.DataFrame({"a": [1], "at": [dt.date(2026, 1, 1)]}), [{"a": 1, "at": "2026-01-01"}]),
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
        map(str, [1]),
        len,
        object,
        Exits(),
        Items([1]),
        1j,
        {(1, 2): 3},
        {"a": [{frozenset({1}): 3}]},
        np.zeros(10**6),
        pd.DataFrame(np.zeros((10**5, 2))),
        pl.DataFrame({"a": np.zeros(10**6)}),
        pl.Series(np.zeros(10**6)),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({("a", "b"): [1]}),
        pl.DataFrame({"a": [1]}).lazy(),
        pd.Period("2026-01"),
        np.complex64(1),
        np.datetime64("12026-01-01"),
        np.array(["-0001-01-01"], dtype="M8[D]"),
        np.timedelta64(10**9, "D"),
        np.timedelta64(5, "M"),
        types.SimpleNamespace(a=1),
        ValueError("x"),
        msgspec.UNSET,
        pydantic.SecretStr("x"),
        Aliased.model_validate({"other": threading.Lock()}),
        "\ud800",
        "\x00",
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_place_in_json_is_said_whatever_it_raises(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is not JSON|NUL"):
        json_text(value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (threading.Lock(), "a _thread.lock cannot be stored"),
        ({"a": [threading.Lock()]}, "a _thread.lock cannot be stored"),
        (Aliased.model_validate({"other": threading.Lock()}), "a _thread.lock cannot be stored"),
        (Data(n for n in [1]), "a builtins.generator cannot be stored"),
        ({(1, 2): 3}, "a key of type tuple cannot be stored"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns of one name"),
        (np.zeros(10**6), "a ndarray of 1000000 items is too large"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_type(value: Any, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        json_text(value)


def test_a_list_in_itself_or_one_too_deep_is_not_json() -> None:
    endless: list[Any] = []
    endless.append(endless)

    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]

    for value in (endless, deep):
        with pytest.raises(ValueError, match="is not JSON: maximum recursion depth"):
            json_text(value)


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
