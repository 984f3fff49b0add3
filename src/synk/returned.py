"""Where arguments that were read back are not what they were."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeAlias, cast

from msgspec import inspect as shapes

from synk.ordered import field_names

Found: TypeAlias = "tuple[str, object, object]"
"""A field's path, what it held, and what it holds when it is back."""

_Parts: TypeAlias = "list[tuple[str, object, object, Any]]"
"""Of each part its path, what it was, what it is when it is back, and its type's shape."""

_STEP: Final = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_PLAIN: Final = (str, int, float, list, dict, type(None))
_MISSING: Final = object()


def difference(given: object, back: object, args_type: Any) -> Found | None:
    """Returns the first place where *back* is not *given*, or None if there is none."""
    shape = None if hasattr(args_type, "model_fields") else shapes.type_info(args_type)
    return _difference("args", given, back, shape)


def found_at(given: object, path: str) -> object:
    """Returns what lies at a path such as ``.tags[0]``, or at as much of it as there is."""
    for name, index in _STEP.findall(path):
        try:
            given = _part(given, name) if name else cast("Any", given)[int(index)]
        except (AttributeError, LookupError, TypeError):
            break
    return given


def _part(whole: Any, name: str) -> object:
    if isinstance(whole, dict):
        return cast("dict[str, object]", whole)[name]
    fields: Sequence[str] = getattr(whole, "__struct_fields__", ())
    encoded: Sequence[str] = getattr(whole, "__struct_encode_fields__", ())
    return getattr(whole, dict(zip(encoded, fields, strict=True)).get(name, name))


def _difference(path: str, given: Any, back: Any, shape: Any) -> Found | None:
    if isinstance(shape, shapes.Metadata):
        shape = shape.type
    if isinstance(shape, shapes.AnyType):
        return None if _counts(given) == _counts(back) else (path, given, back)
    if isinstance(shape, shapes.UnionType):
        found = [_difference(path, given, back, each) for each in shape.types]
        return None if None in found else found[0]
    if _is_equal(given, back) or (shape is None and _is_plain_of(given, back)):
        return None
    parts = _parts(path, given, back, shape)
    if parts is None:
        return path, given, back
    return next(filter(None, (_difference(*part) for part in parts)), None)


def _parts(path: str, given: object, back: object, shape: Any) -> _Parts | None:
    """Returns what the two hold, side by side; None if they are not of one kind."""
    if isinstance(given, dict) and isinstance(back, dict):
        return _items(path, cast("Any", given), cast("Any", back), shape)
    if isinstance(given, (list, tuple)) and isinstance(back, (list, tuple)):
        one, other = cast("Sequence[object]", given), cast("Sequence[object]", back)
        if len(one) != len(other):
            return None
        of_each = getattr(shape, "item_types", None) or [getattr(shape, "item_type", None)]
        kinds = [of_each[min(n, len(of_each) - 1)] for n in range(len(one))]
        return [
            (f"{path}[{n}]", a, b, kind)
            for n, (a, b, kind) in enumerate(zip(one, other, kinds, strict=True))
        ]
    if isinstance(given, AbstractSet) and isinstance(back, AbstractSet):
        untyped = isinstance(getattr(shape, "item_type", None), shapes.AnyType)
        one, other = cast("AbstractSet[object]", given), cast("AbstractSet[object]", back)
        return [] if untyped and len(one) == len(other) else None
    return _fields(path, cast("object", given), back, shape)


def _fields(path: str, given: object, back: object, shape: Any) -> _Parts | None:
    if type(given) is not type(back):
        return None
    fields = getattr(shape, "fields", None)
    if fields is not None:
        named = {field.name: field.type for field in fields}
    else:
        named = dict.fromkeys(_names(given))
    pairs = [
        (f"{path}.{name}", getattr(given, name, _MISSING), getattr(back, name, _MISSING), kind)
        for name, kind in named.items()
    ]
    return pairs or None


def _items(path: str, given: dict[Any, Any], back: dict[Any, Any], shape: Any) -> _Parts | None:
    if len(given) != len(back):
        return None
    untyped = shape is None or isinstance(getattr(shape, "key_type", None), shapes.AnyType)
    if given.keys() != back.keys() and not untyped:
        return None
    fields = {field.name: field.type for field in getattr(shape, "fields", ())}
    value_type = getattr(shape, "value_type", None)
    pairs = zip(
        given, given.values(), back.values() if untyped else map(back.get, given), strict=True
    )
    return [(f"{path}.{key}", a, b, fields.get(key, value_type)) for key, a, b in pairs]


def _names(value: Any) -> list[str]:
    """Returns the fields of a pydantic model, or of what one holds."""
    kind = cast("Any", type(value))
    names = [*field_names(kind), *(getattr(value, "__pydantic_extra__", None) or ())]
    if names or hasattr(kind, "model_fields"):
        return names
    # Without an idea of its own of what is equal, its attributes are all that it is.
    return list(getattr(value, "__dict__", ())) if kind.__eq__ is object.__eq__ else []


def _is_equal(given: Any, back: Any) -> bool:
    try:
        if given == back:
            return True
        if isinstance(given, dt.datetime) and isinstance(back, dt.datetime):
            # In the hour that comes twice no time of one zone equals that of another.
            return given.astimezone(dt.UTC) == back.astimezone(dt.UTC)
        # A number that is none equals nothing.
        return type(given) is type(back) and given != given and back != back  # noqa: PLR0124
    except Exception:  # noqa: BLE001 - a value's own methods can raise anything
        return False


def _is_plain_of(given: Any, back: Any) -> bool:
    """Whether *back* is what JSON makes of *given*, as in a model's field without a type."""
    if type(back) not in _PLAIN or type(given) in _PLAIN:
        return False
    if hasattr(given, "get_secret_value") or isinstance(given, Iterator):
        # What JSON makes of these is nothing that stands for them: what was left, and asterisks.
        return False
    from pydantic_core import to_jsonable_python  # noqa: PLC0415 - only where models are used

    try:
        return to_jsonable_python(given) == back
    except Exception:  # noqa: BLE001 - as above
        return False


def _counts(value: Any) -> int:
    """Returns how many items there are, to see that no key took another's place."""
    if isinstance(value, (Mapping, list, tuple, AbstractSet)):
        return len(cast("Mapping[Any, Any]", value))
    return 0
