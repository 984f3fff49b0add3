"""A job's arguments: what declares them, and their way to JSON text and back.

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
from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from synk.errors import InvalidJob, shown
from synk.ordered import field_names, ordered
from synk.plain import holds_nul, simpler
from synk.returned import difference, found_at
from synk.row import check_label

if TYPE_CHECKING:
    from collections.abc import Callable

ARGS_BYTES_MAX: Final = 1024 * 1024
"""The largest encoded arguments: a job is a message, files belong elsewhere."""

_FORMS_MAX: Final = 1_000
"""Types that are remembered: more are made by a program that makes them as it goes."""

_AT: Final = re.compile(r" - at `(?:key in )?\$(.*)`$")
"""Where msgspec says that something is wrong."""

_SCALARS: Final = (str, int, float, bool)
"""What msgspec reads back as it was."""

_OWN_CODE: Final = ("model_fields", "__post_init__", "__attrs_post_init__")

_MADE_FIELDS: Final = ("__dataclass_fields__", "__attrs_attrs__")
_OPTIONS: Final = (
    *("scheduled_at", "priority", "pending", "queue", "max_retries", "depends_on"),
    *("idempotency_key", "tags", "meta", "start_before", "keep", "unique"),
)
_LIMITS: Final = ("timeout", "soft_timeout", "max_rss", "next_retry", "cores", "memory", "limit")
"""What belongs to an insert, and to a worker."""
_OF_KINDS: Final = ("priority", "queue", "max_retries", "tags", "keep", "unique")
"""What belongs to an insert, and may be said by a worker."""

_encode: Final = msgspec.json.Encoder(enc_hook=simpler).encode


class JobArgs:
    """The base for a job's arguments when they are a plain dataclass.

    ``class ThumbnailArgs(synk.JobArgs, kind="thumbnail")``. A `msgspec.Struct` or a pydantic model
    with a class attribute ``kind`` needs no base class.

    They travel as JSON and come back by the types of their fields: datetime, timedelta, Decimal,
    UUID, bytes, Enum, tuple, set, whole numbers of any size, dict with numbers as keys. A field
    that names no type (Any) gets plain JSON back: lists, texts, and a float from 1e16 on as a whole
    number. A number that is not finite, a NUL character and a lone surrogate are refused.

    Attributes:
        kind: what ties a job to its worker, by the class's ``kind="..."``; 1 to 127 characters.
    """

    kind: ClassVar[str]

    def __init_subclass__(cls, *, kind: str | None = None, **options: Any) -> None:
        for name, value in options.items():
            if name in _OPTIONS:
                problem = f"is no matter of a class: insert with InsertOptions({name}=...)"
                if name in _OF_KINDS:
                    problem += f", or write @synk.worker({name}=...) for all of the kind"
                raise InvalidJob(name, value, problem)
            if name in _LIMITS:
                raise InvalidJob(
                    name, value, f"is no matter of the arguments: write @synk.worker({name}=...)"
                )
        super().__init_subclass__(**options)
        if kind is not None:
            cls.kind = check_label("kind", kind)

    def __init__(self, *values: object, **named: object) -> None:
        # A dataclass has its own: this one is called where the decorator is missing.
        JobArgs.check_declared(type(self))
        super().__init__(*values, **named)

    @staticmethod
    def check_declared(args_type: type[JobArgs]) -> None:
        """Checks that the fields of *args_type* are known to be such.

        Raises:
            InvalidJob: nothing has made fields of what it declares.
        """
        own = vars(args_type)
        if any(name in own for name in _MADE_FIELDS) or hasattr(args_type, "model_fields"):
            return
        fields = [n for n, t in own.get("__annotations__", {}).items() if "ClassVar" not in str(t)]
        if fields or not any(hasattr(args_type, name) for name in _MADE_FIELDS):
            raise InvalidJob(
                "args",
                args_type,
                f"is no dataclass: write @dataclass above `class {args_type.__name__}`",
            )


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
        # What its values' types are where that tells that they come back: quicker than to read.
        self.scalars = _scalars_of(args_type, names)

    def check(self, args: object, text: str) -> None:
        """Checks that *args* come back from *text*.

        Raises:
            InvalidJob: they do not; it names the field.
        """
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
                f"would reach the worker as {shown(other)}: give what the field's type says, "
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
        raise InvalidJob("args", args, f"is not JSON: {shown(error, str)}") from None
    if text[:1] != "{":
        raise InvalidJob("args", args, "must become a JSON object")
    if len(text) > ARGS_BYTES_MAX // 4 and (size := len(text.encode())) > ARGS_BYTES_MAX:
        raise InvalidJob("args", args, f"{size} bytes of JSON, at most {ARGS_BYTES_MAX}")
    if "null" in text:
        # Both msgspec and pydantic write NaN so.
        _check_values("args", _plain(args))
    if holds_nul(text):
        _check_values("args", json.loads(text))
    try:
        if form.scalars is not None and form.types(args) == form.scalars:
            return form.kind, text
    except AttributeError:
        pass
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
        if reads_names(validate):
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


def reads_names(validate: Any) -> bool:
    """Whether this pydantic reads fields by their names beside their aliases: from 2.11 on.

    Then they are written by their names.
    """
    return "by_name" in inspect.signature(validate).parameters


def _dumper_of(args_type: Any) -> Callable[[Any], str]:
    if not hasattr(args_type, "model_dump_json"):
        return lambda args: _encode(args).decode()
    # By the names that are read back; without computed fields, which nobody reads.
    by_alias = not reads_names(args_type.model_validate_json)
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
        problem = shown(error, str)
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
