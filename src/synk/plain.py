"""What Python's values become as JSON: the one rule for results, progress and checkpoints.

given                                           becomes
----------------------------------------------  ------------------------------------------------
None, bool, int, float, str and subclasses      themselves; a float that is not finite: null
dict and other mappings                         an object; keys become text as in `json`
list, tuple, set, deque, range and the like     a list
dataclass, msgspec Struct, attrs, pydantic      an object with their fields; of attrs without those
                                                whose name begins with an underscore
Enum                                            its value
datetime, date, time, timedelta                 text by ISO 8601
UUID, Decimal, Path                             text
bytes, bytearray, memoryview                    text in base64
a scalar or an array of numpy, torch, ...       a number, a list (whatever has ``tolist``)
a series, a data frame of pandas, polars        a list; a list of objects
pandas' NA and NaT                              null
any other number (Fraction, ...)                an int or a float

Nothing else can be stored: not a lock, a generator, a function, an open file. Nor can a text with a
NUL character or a lone surrogate, which PostgreSQL refuses, a time before the year 1 or after 9999,
and a data frame with two columns of one name. No library is imported for this.
"""

from __future__ import annotations

import collections
import datetime as dt
import math
import operator
import re
from collections.abc import Mapping, Sequence, ValuesView
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

import msgspec

from synk.errors import JobCancelled, SoftTimeout

_ITEMS_MAX: Final = 65_536
"""More items than this are over 64 KiB in any case: an array is not unrolled to learn that."""

_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""JSON's escape, and not the text of one."""

_LISTED: Final = (Sequence, AbstractSet, ValuesView, collections.deque)


def json_text(value: object) -> str:
    """Returns JSON text that PostgreSQL can store and UTF-8 can carry.

    Raises:
        ValueError: there is none.
    """
    try:
        text = _encoded(value)
    except (JobCancelled, SoftTimeout, KeyboardInterrupt):
        # They come between any two instructions, and are not the value's.
        raise
    except BaseException as error:  # noqa: BLE001 - the value's own methods can raise anything
        raise ValueError(f"is not JSON: {_words(error)}") from None
    if holds_nul(text):
        raise ValueError("holds a NUL character, which PostgreSQL cannot store")
    return text


def holds_nul(text: str) -> bool:
    """Whether JSON text holds a NUL character, which PostgreSQL cannot store."""
    return "\\u0000" in text and _NUL.search(text) is not None


def simpler(value: Any) -> Any:
    """Returns what stands for a value that JSON does not know, one step nearer to it.

    Raises:
        TypeError: nothing does.
    """
    for of_kind in (_of_builtin, _of_time, _of_collection, _of_library, _of_number):
        found = of_kind(value)
        if found is not _NOT_MINE:
            return found
    raise TypeError(f"a {type(value).__module__}.{type(value).__qualname__} cannot be stored")


_NOT_MINE: Final = object()
_encode: Final = msgspec.json.Encoder(enc_hook=simpler).encode


def _encoded(value: object) -> str:
    try:
        return _encode(value).decode()
    except TypeError:
        # Perhaps for keys that only Python's own json knows.
        return _encode(_with_texts_as_keys(value)).decode()


def _words(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except BaseException:  # noqa: BLE001 - as above
        return type(error).__name__


def _with_texts_as_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {_key(key): _with_texts_as_keys(item) for key, item in items}
    if isinstance(value, (list, tuple)):
        return [_with_texts_as_keys(item) for item in cast("Sequence[Any]", value)]
    return value


def _key(key: Any) -> Any:
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    try:
        text = _encode(key).decode()
    except Exception:  # noqa: BLE001 - a key can be anything
        text = "["
    if text[0] in "[{":
        raise TypeError(f"a key of type {type(key).__qualname__} cannot be stored")
    return msgspec.json.decode(text) if text[0] == '"' else text


def _of_builtin(value: Any) -> Any:
    """Of a subclass: what it inherits, by none of its own methods."""
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int.__int__(value)
        case float():
            return float.__float__(value)
        case bytes() | bytearray() | memoryview():
            return memoryview(cast("Any", value)).tobytes()
        case collections.UserString():
            return value.data
        case _:
            return _NOT_MINE


def _of_time(value: Any) -> Any:
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    match value:
        case dt.datetime():
            date, time = dt.datetime.date(value), dt.datetime.timetz(value)
            return dt.datetime.combine(_of_time(date), _of_time(time))
        case dt.date():
            return dt.date(value.year, value.month, value.day)
        case dt.time():
            return dt.time(
                value.hour,
                value.minute,
                value.second,
                value.microsecond,
                value.tzinfo,
                fold=value.fold,
            )
        case dt.timedelta():
            return dt.timedelta(value.days, value.seconds, value.microseconds)
        case _:
            return _NOT_MINE


def _of_collection(value: Any) -> Any:
    if type(value) in {list, tuple, dict, set, frozenset}:
        # JSON knows them, but not where this one is.
        raise TypeError(f"a {type(value).__name__} cannot be a key")
    if isinstance(value, Mapping):
        return dict(cast("Mapping[Any, Any]", value))
    if isinstance(value, _LISTED):
        return list(cast("Sequence[Any]", value))
    return _NOT_MINE


def _of_library(value: Any) -> Any:
    kind = cast("Any", type(value))
    if hasattr(kind, "model_dump"):
        return _of_model(value)
    if hasattr(kind, "__fspath__"):
        path = kind.__fspath__(value)
        return path if isinstance(path, str) else path.decode()
    if hasattr(kind, "to_dict") and hasattr(value, "columns"):
        _check_size(value)
        if len(set(value.columns)) < len(value.columns):
            raise TypeError(f"a {kind.__qualname__} with two columns of one name cannot be stored")
        # pandas asks how.
        return value.to_dicts() if hasattr(kind, "to_dicts") else value.to_dict("records")
    for method in ("tolist", "to_list"):
        if hasattr(kind, method):
            return _listed(value, method)
    return _NOT_MINE


def _of_model(value: Any) -> Any:
    try:
        return value.model_dump(mode="json")
    except Exception:
        serializer = getattr(cast("Any", type(value)), "__pydantic_serializer__", None)
        if serializer is None:
            raise
        # It holds what pydantic itself does not know.
        return serializer.to_python(value, mode="json", by_alias=False, fallback=simpler)


def _check_size(value: Any) -> None:
    """Refuses what would be unrolled for nothing."""
    shape = getattr(value, "shape", ())
    if (
        isinstance(shape, tuple)
        and (size := math.prod(cast("tuple[int, ...]", shape))) > _ITEMS_MAX
    ):
        raise TypeError(f"a {type(value).__qualname__} of {size} items is too large")


def _listed(value: Any, method: str) -> Any:
    kind = cast("Any", type(value))
    _check_size(value)
    unit = getattr(getattr(value, "dtype", None), "kind", "")
    if kind.__module__ == "numpy" and unit in {"M", "m"}:
        return _times(value)
    found = getattr(value, method)()
    return _of_number(found) if type(found) is kind else found


def _times(value: Any) -> Any:
    """Returns numpy's times, or one of them, as Python's; of a finer unit it gives bare numbers."""
    name = value.dtype.name
    unit = name.partition("[")[2].strip("0123456789]")
    if not unit:
        return value.tolist()
    if name.startswith("timedelta64") and unit in {"M", "Y"}:
        raise TypeError(f"a {name} cannot be stored: months differ")
    found = value.astype(f"{name.partition('[')[0]}[us]")
    is_same = (found.astype(value.dtype) == value) | (value != value)  # noqa: PLR0124 - not a time
    if unit not in {"ns", "ps", "fs", "as"} and not is_same.all():
        raise TypeError(f"a {name} of so long a time cannot be stored")
    if any(isinstance(each, int) for each in found.ravel().tolist()):
        raise TypeError(f"a {name} before the year 1 or after 9999 cannot be stored")
    return found.tolist()


def _of_number(value: Any) -> Any:
    kind = cast("Any", type(value))
    if hasattr(kind, "__index__"):
        return operator.index(value)
    return float(value) if hasattr(kind, "__float__") else _NOT_MINE
