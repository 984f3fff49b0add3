"""Sets as lists in one order, so that the same arguments are the same JSON in each process.

Texts, and members of an Enum, have another hash in each process of Python, and a set of them has
another order. msgspec's own order needs members that can be compared with each other, as those of
an Enum cannot, and pydantic has none.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from synk.plain import simpler

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_encode: Final = msgspec.json.Encoder(enc_hook=simpler, order="sorted").encode


def ordered(value: Any) -> Any:
    """Returns what has a list in the place of each set in *value*; itself where there is none."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(ordered, cast("Iterable[Any]", value)), key=_encode)
    if isinstance(value, dict):
        given = cast("dict[Any, Any]", value)
        changed = _changed(given)
        return {**given, **changed} if changed else given
    if isinstance(value, (list, tuple)):
        items = dict(enumerate(cast("Iterable[Any]", value)))
        changed = _changed(items)
        return list({**items, **changed}.values()) if changed else cast("Any", value)
    return _record(value)


def field_names(record_type: Any) -> list[str]:
    """Returns the names of the fields of a type that has such."""
    if hasattr(record_type, "model_fields"):
        return list(record_type.model_fields)
    if hasattr(record_type, "__struct_fields__"):
        return list(record_type.__struct_fields__)
    if dataclasses.is_dataclass(record_type):
        return [field.name for field in dataclasses.fields(record_type)]
    return [each.name for each in getattr(record_type, "__attrs_attrs__", ())]


def _changed(given: Mapping[Any, Any]) -> dict[Any, Any]:
    found = {key: ordered(item) for key, item in given.items()}
    return {key: item for key, item in found.items() if item is not given[key]}


def _record(value: Any) -> Any:
    names = [*field_names(type(value)), *(getattr(value, "model_extra", None) or ())]
    given = {name: getattr(value, name) for name in names if hasattr(value, name)}
    changed = _changed(given)
    if not changed:
        return value
    if isinstance(value, msgspec.Struct):
        value = copy.copy(value)
        for name, item in changed.items():
            msgspec.structs.force_setattr(value, name, item)
        return value
    if hasattr(value, "model_copy"):
        return value.model_copy(update=changed)
    return given | changed
