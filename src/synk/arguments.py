"""A job's arguments, on their way to JSON text and back.

At the insert they are read back as a worker will read them, and compared: what would arrive as
something else, or not at all, is refused while there is somebody to tell. A field comes back by its
type: a list where it says list, if a tuple was given; plain JSON where it names no type.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import typing
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk.errors import InvalidJob
from synk.insertion import ARGS_BYTES_MAX, JobArgs, check_label
from synk.ordered import field_names, ordered
from synk.plain import holds_nul, simpler
from synk.returned import difference, found_at

if TYPE_CHECKING:
    from collections.abc import Callable

_FORMS_MAX: Final = 1_000
"""Types that are remembered: more are made by a program that makes them as it goes."""

_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$")
"""Where msgspec says that something is wrong."""

_SCALARS: Final = (str, int, float, bool)
"""What msgspec reads back as it was."""

_OWN_CODE: Final = ("model_fields", "__post_init__", "__attrs_post_init__")

_encode: Final = msgspec.json.Encoder(enc_hook=simpler).encode


class _Form:
    """How arguments of one type are written and read."""

    __slots__ = ("decode", "dump", "kind", "scalars", "type", "types", "values")

    def __init__(self, args_type: type) -> None:
        self.type = args_type
        self.kind = kind_of(args_type)
        self.dump = _dumper_of(args_type)
        self.decode = decoder_of(args_type)
        names = field_names(args_type)
        self.values: Callable[[Any], Any] = attrgetter(*names) if names else type
        types = [f"{name}.__class__" for name in names]
        self.types: Callable[[Any], Any] = attrgetter(*types) if names else type
        self.scalars = _scalars_of(args_type, names)
        """What its values' types are where that tells that they come back: quicker than to read."""

    def check(self, args: object, text: str) -> None:
        """Checks that *args* come back from *text*.

        Raises:
            InvalidJob: they do not; it names the field.
        """
        try:
            if self.scalars is not None and self.types(args) == self.scalars:
                return
        except AttributeError:
            pass
        try:
            back = self.decode(text)
        except Exception as error:  # noqa: BLE001 - a type's own code can raise anything
            raise _refused(args, error) from None
        try:
            if self.values(back) == self.values(args):
                return
        except Exception:  # noqa: BLE001, S110 - as above; and an array does not say yes or no
            pass
        found = difference(args, back, self.type)
        if found is not None:
            path, given, other = found
            raise InvalidJob(
                path,
                given,
                f"would reach the worker as {_shown(other)}: give what the field's type says, "
                "or name the type of what you give",
            )


_forms: Final[dict[type, _Form]] = {}


def _form_of(args: object) -> _Form:
    if isinstance(args, type):
        raise InvalidJob("args", args, "give an instance, not the class")
    args_type = type(args)
    if len(_forms) >= _FORMS_MAX:
        _forms.clear()
    form = _forms[args_type] = _Form(args_type)
    return form


def encode_args(args: object, *, in_order: bool = False) -> tuple[str, str]:
    """Returns the kind and the JSON text of a job's arguments.

    Args:
        args: the arguments.
        in_order: whether sets are written in one order, the same in each process.

    Raises:
        InvalidJob: they have no kind, are not JSON (NaN, an open file, ...), hold a NUL character,
            are larger than 1 MiB, or would reach the worker as something else.
    """
    form = _forms.get(type(args)) or _form_of(args)
    try:
        # Where all fields are scalars there are no sets to look for.
        text = form.dump(ordered(args) if in_order and form.scalars is None else args)
    except Exception as error:  # noqa: BLE001 - a value's own methods can raise anything
        raise InvalidJob("args", args, f"is not JSON: {_shown(error, str)}") from None
    if text[:1] != "{":
        raise InvalidJob("args", args, "must become a JSON object")
    if len(text) > ARGS_BYTES_MAX // 4 and (size := len(text.encode())) > ARGS_BYTES_MAX:
        raise InvalidJob("args", args, f"{size} bytes of JSON, at most {ARGS_BYTES_MAX}")
    if "null" in text:
        # Both msgspec and pydantic write NaN so.
        _check_values("args", _plain(args))
    if holds_nul(text):
        _check_values("args", json.loads(text))
    form.check(args, text)
    return form.kind, text


def kind_of(args_type: object) -> str:
    """Returns the kind of a type of arguments.

    Raises:
        InvalidJob: it has none, one that cannot be a kind, or fields that nothing knows of.
    """
    kind = getattr(args_type, "kind", None)
    if not isinstance(kind, str):
        raise InvalidJob(
            "args", args_type, "has no class attribute kind (a ClassVar[str]); see synk.JobArgs"
        )
    if isinstance(args_type, type) and issubclass(args_type, JobArgs):
        JobArgs.check_declared(args_type)
    return check_label("kind", kind)


def decoder_of(args_type: Any) -> Callable[[str], Any]:
    """Returns what reads arguments of a type: JSON text -> an instance.

    It raises ValueError for what does not fit: msgspec's and pydantic's errors are such.

    Raises:
        InvalidJob: the type has a field that cannot be read.
    """
    validate = getattr(args_type, "model_validate_json", None)
    if validate is not None:
        if _reads_names(validate):
            return functools.partial(validate, by_alias=True, by_name=True)
        return validate
    try:
        return msgspec.json.Decoder(args_type).decode
    except Exception as error:  # noqa: BLE001 - a name that is not there, a type that msgspec cannot
        raise InvalidJob("args", args_type, f"cannot be decoded: {error}") from None


def from_null(decode: Callable[[str], Any], text: str) -> Any:
    """Returns the type's defaults where the arguments are a JSON null; else what *decode* says.

    Raises:
        ValueError: the arguments do not fit the type, or it has a field without a default.
    """
    return decode("{}" if text.strip() == "null" else text)


def _reads_names(validate: Any) -> bool:
    """Whether this pydantic can read fields by their names beside their aliases: from 2.11 on."""
    return "by_name" in inspect.signature(validate).parameters


def _dumper_of(args_type: Any) -> Callable[[Any], str]:
    if not hasattr(args_type, "model_dump_json"):
        return lambda args: _encode(args).decode()
    # By the names that are read back; without computed fields, which nobody reads.
    by_alias = not _reads_names(args_type.model_validate_json)
    return lambda args: args.model_dump_json(by_alias=by_alias, round_trip=True, warnings=False)


def _scalars_of(args_type: Any, names: list[str]) -> tuple[type, ...] | type | None:
    """Returns the types of all fields, of one by itself, if values of them are known to come back.

    They are not where one is no plain scalar, is computed or has another name in JSON, or where
    the type has code of its own that is run when it is read.
    """
    if not names or any(hasattr(args_type, name) for name in _OWN_CODE):
        return None
    hints = typing.get_type_hints(args_type, include_extras=True)
    types: tuple[Any, ...] = tuple(hints.get(name) for name in names)
    computed = any(isinstance(getattr(args_type, name, None), property) for name in names)
    in_json = getattr(args_type, "__struct_encode_fields__", names)
    if computed or list(in_json) != names or not all(each in _SCALARS for each in types):
        return None
    return types[0] if len(types) == 1 else types


def _plain(args: Any) -> object:
    """Returns what became JSON, before it did."""
    if hasattr(args, "model_dump"):
        return args.model_dump(warnings=False)
    return msgspec.to_builtins(args, enc_hook=simpler)


def _refused(args: object, error: Exception) -> InvalidJob:
    """Returns the error for arguments that a worker could not read."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        first = typing.cast("list[dict[str, Any]]", errors())[0]
        path = "".join(f".{part}" for part in first["loc"])
        value, problem = first["input"], first["msg"]
    else:
        problem = _shown(error, str)
        place = _AT.search(problem)
        path = place[1] if place else ""
        value = found_at(args, path)
        problem = problem[: place.start()] if place else problem
    return InvalidJob(f"args{path}", value, f"no worker could read it: {problem}")


def _check_values(path: str, value: object) -> None:
    """Looks for what JSON text hides, or PostgreSQL refuses."""
    match value:
        case dict():
            for key, item in typing.cast("dict[object, object]", value).items():
                _check_values(path, key)
                _check_values(f"{path}.{key}", item)
        case list() | tuple() | set() | frozenset():
            for index, item in enumerate(typing.cast("typing.Iterable[object]", value)):
                _check_values(f"{path}[{index}]", item)
        case str() if "\x00" in value:
            raise InvalidJob(path, value, "holds a NUL character, which PostgreSQL cannot store")
        case float() if not math.isfinite(value):
            raise InvalidJob(path, value, "is not JSON: it is no finite number")
        case _:
            pass


def _shown(value: object, how: Callable[[object], str] = repr) -> str:
    try:
        text = how(value)
    except Exception:  # noqa: BLE001 - as above
        return f"a {type(value).__name__}"
    return text if len(text) <= 200 else f"{text[:199]}…"
