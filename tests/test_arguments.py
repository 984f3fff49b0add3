"""Arguments are stored only if a worker gets them as they were given."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, fields
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

import synk
from synk.arguments import decoder_of, encode_args, from_null

BERLIN = ZoneInfo("Europe/Berlin")
TWICE = dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
"""The hour that comes twice."""


class Colour(Enum):
    RED = "red"


class Words(str):
    __slots__ = ()


class Number(int):
    pass


@dataclass
class Base:
    a: int = 1


@dataclass
class Sub(Base):
    b: int = 2


@dataclass(eq=False)
class Unequal:
    a: int = 1


@dataclass
class Resize(synk.JobArgs, kind="resize"):
    path: str = "a"
    width: int = 1
    ratio: float = 1.0
    flag: bool = False
    at: dt.datetime | None = None
    clock: dt.time | None = None
    money: Decimal = Decimal(0)
    raw: bytes = b""
    name: uuid.UUID | None = None
    mode: Literal["fit", "fill"] = "fit"
    colour: Colour = Colour.RED
    tags: list[str] = field(default_factory=list)
    words: Sequence[str] = field(default_factory=list)
    pair: tuple[int, int] = (0, 0)
    by_number: dict[int, str] = field(default_factory=dict)
    by_text: dict[str, Any] = field(default_factory=dict)
    base: Base = field(default_factory=Base)
    bases: list[Base] = field(default_factory=list)
    unequal: Unequal | None = None
    hidden: int = field(default=1, compare=False)
    later: int = field(default=1, init=False)
    anything: Any = None


@dataclass
class Doubling(synk.JobArgs, kind="doubling"):
    n: int

    def __post_init__(self) -> None:
        self.n *= 2


@dataclass
class Plain(synk.JobArgs, kind="plain"):
    """Its values' types say that they come back, so it is not read back."""

    path: str = "a"
    width: int = 1
    ratio: float = 1.0
    flag: bool = False


@dataclass
class One(synk.JobArgs, kind="one"):
    n: int = 0


@dataclass
class Bounded(synk.JobArgs, kind="bounded"):
    n: Annotated[int, msgspec.Meta(ge=1)] = 1


@dataclass
class Computed(synk.JobArgs, kind="computed"):
    n: int


def _halved(args: Computed) -> int:
    return vars(args)["n"] // 2


Computed.n = property(_halved, lambda args, n: vars(args).update(n=n))  # pyright: ignore[reportAttributeAccessIssue]


class Swapped(msgspec.Struct, rename={"a": "b", "b": "a"}):
    kind: ClassVar[str] = "swapped"
    a: int = 1
    b: int = 2


@dataclass
class Initialised(synk.JobArgs, kind="initialised"):
    n: int
    seed: InitVar[int] = 3


@dataclass
class Located(synk.JobArgs, kind="located"):
    path: Path = Path()


class Renamed(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    kind: ClassVar[str] = "renamed"
    first_name: str = "x"
    numbers: list[int] = []


class Address(pydantic.BaseModel):
    street: str = pydantic.Field(alias="Street")
    _cache: int = pydantic.PrivateAttr(default=0)


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    kind: ClassVar[str] = "aliased"
    width: int = pydantic.Field(alias="Width")
    height: int = pydantic.Field(default=1, validation_alias="h", serialization_alias="H")
    depth: int = pydantic.Field(default=1, validation_alias=pydantic.AliasPath("size", 0))
    address: Address | None = None
    anything: Any = None

    @pydantic.computed_field
    @property
    def area(self) -> int:
        return self.width * self.height


class Loud(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)
    kind: ClassVar[str] = "loud"
    width: int = pydantic.Field(validation_alias="w", serialization_alias="W")


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    kind: ClassVar[str] = "open"
    n: int = 1


class Secretive(pydantic.BaseModel):
    kind: ClassVar[str] = "secretive"
    password: pydantic.SecretStr = pydantic.SecretStr("")
    left_out: int = pydantic.Field(default=1, exclude=True)
    masked: str = ""

    @pydantic.field_serializer("masked")
    def mask(self, value: str) -> str:
        return "*" * len(value)


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    kind: ClassVar[str] = "strict"
    at: dt.datetime
    pair: tuple[int, int] = (0, 0)
    path: Path = Path()


def back(args: Any) -> Any:
    return decoder_of(type(args))(encode_args(args)[1])


@pytest.mark.parametrize(
    "args",
    [
        Resize("ü", 2**70, 3, True),
        Resize(at=dt.datetime(2026, 1, 1), clock=dt.time(12, tzinfo=BERLIN)),  # noqa: DTZ001
        Resize(at=TWICE),
        Resize(money=Decimal("1.50"), raw=b"\0\xff", name=uuid.UUID(int=5)),
        Resize(by_number={1: "a"}, by_text={"a": {"b": [1, None, 1e300]}}),
        Resize(bases=[Base(3)], pair=(1, 2)),
        Resize(path=Words("a"), width=Number(3)),
        Plain("ü\ud7ff\U0001f600", -(2**70), 5e-324, True),
        Plain(Words("a"), Number(3), 3),
        One(2**64),
        Bounded(2),
        Computed(8),
        Swapped(3, 4),
        Renamed("y", [1]),
        Renamed(),
        Aliased.model_validate({"Width": 3, "h": 4, "size": [5], "address": {"Street": "x"}}),
        Loud(w=3),  # pyright: ignore[reportCallIssue]
        Open(n=2, more="x"),  # pyright: ignore[reportCallIssue]
        Strict(at=dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC), pair=(1, 2), path=Path("/a")),
    ],
    ids=repr,
)
def test_arguments_come_back_as_they_were(args: Any) -> None:
    assert back(args) == args or args.at is TWICE


@pytest.mark.parametrize(
    "args",
    [
        Resize(tags=("a", "b"), words=("a",), pair=[1, 2]),  # pyright: ignore[reportArgumentType]
        Resize(unequal=Unequal(5)),
        Resize(money=Decimal("NaN")),
        Resize(anything=(1, {"a": {2}}, TWICE, uuid.UUID(int=1))),
        Resize(by_text={"a": (1, 2)}),
        Aliased.model_validate({"Width": 1, "anything": (1, TWICE, {2: Path("/a")})}),
    ],
    ids=["containers", "without equality", "no number", "no type", "no type inside", "model"],
)
def test_arguments_come_back_by_the_types_of_their_fields(args: Any) -> None:
    encode_args(args)


def changed(args: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(args, name, value)
    return args


@pytest.mark.parametrize(
    ("args", "path", "value"),
    [
        (Resize("a", width="wide"), "args.width", "wide"),  # pyright: ignore[reportArgumentType]
        (Resize(width=1.0), "args.width", 1.0),  # pyright: ignore[reportArgumentType]
        (Resize(width=1.5), "args.width", 1.5),  # pyright: ignore[reportArgumentType]
        (Resize(width=True), "args.width", True),
        (Resize(width=None), "args.width", None),  # pyright: ignore[reportArgumentType]
        (Resize(ratio=2**53 + 1), "args.ratio", 2**53 + 1),
        (Resize(ratio=10**400), "args.ratio", 10**400),
        (Resize(flag=1), "args.flag", 1),  # pyright: ignore[reportArgumentType]
        (Resize(path=uuid.UUID(int=5)), "args.path", uuid.UUID(int=5)),  # pyright: ignore[reportArgumentType]
        (Resize(path=Path("/a")), "args.path", Path("/a")),  # pyright: ignore[reportArgumentType]
        (Resize(at="2026-01-01T00:00:00Z"), "args.at", "2026-01-01T00:00:00Z"),  # pyright: ignore[reportArgumentType]
        (Resize(raw="abcd"), "args.raw", "abcd"),  # pyright: ignore[reportArgumentType]
        (Resize(mode="stretch"), "args.mode", "stretch"),  # pyright: ignore[reportArgumentType]
        (Resize(colour="red"), "args.colour", "red"),  # pyright: ignore[reportArgumentType]
        (Resize(tags=["a", 1]), "args.tags[1]", 1),  # pyright: ignore[reportArgumentType]
        (Resize(tags={"a"}), "args.tags", {"a"}),  # pyright: ignore[reportArgumentType]
        (Resize(pair=(1, 2, 3)), "args.pair", (1, 2, 3)),  # pyright: ignore[reportArgumentType]
        (Resize(by_number={"1": "a"}), "args.by_number", {"1": "a"}),  # pyright: ignore[reportArgumentType]
        (Resize(by_text={1: "a"}), "args.by_text", {1: "a"}),  # pyright: ignore[reportArgumentType]
        (Resize(anything={1: "a", "1": "b"}), "args.anything", {1: "a", "1": "b"}),
        (Resize(base=Sub(1, 5)), "args.base", Sub(1, 5)),
        (Resize(bases=[Base(), Sub()]), "args.bases[1]", Sub()),
        (Resize(unequal=changed(Unequal(), a="b")), "args.unequal.a", "b"),
        (Resize(hidden="x"), "args.hidden", "x"),  # pyright: ignore[reportArgumentType]
        (changed(Resize(), later="x"), "args.later", "x"),
        (Doubling(2), "args.n", 4),
        (Plain(width="wide"), "args.width", "wide"),  # pyright: ignore[reportArgumentType]
        (Plain(flag=1), "args.flag", 1),  # pyright: ignore[reportArgumentType]
        (Plain(path="a\0"), "args.path", "a\0"),
        (Plain(ratio=float("inf")), "args.ratio", float("inf")),
        (One(True), "args.n", True),
        (One(None), "args.n", None),  # pyright: ignore[reportArgumentType]
        (Bounded(0), "args.n", 0),
        (Initialised(2), "args", Initialised),
        (Renamed(first_name=3), "args.firstName", 3),  # pyright: ignore[reportArgumentType]
        (Secretive(left_out=5), "args.left_out", 5),
        (Secretive(masked="x"), "args.masked", "x"),
        (changed(Open(), n="wide"), "args.n", "wide"),
        (Strict.model_construct(at="soon"), "args.at", "soon"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("args") else "",
)
def test_arguments_that_cannot_come_back_name_the_field_and_the_value(
    args: Any, path: str, value: Any
) -> None:
    with pytest.raises(synk.InvalidJob) as caught:
        encode_args(args)

    assert (caught.value.field, caught.value.value) == (path, value)


def test_a_secret_that_becomes_asterisks_is_refused_and_not_told() -> None:
    with pytest.raises(synk.InvalidJob, match=r"args\.password=") as caught:
        encode_args(Secretive(password=pydantic.SecretStr("geheim")))

    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [pydantic.SecretStr("geheim"), [pydantic.SecretStr("geheim")], iter(()), (n for n in (1, 2))],
    ids=["secret", "secret inside", "iterator", "generator"],
)
def test_what_json_would_empty_is_refused_in_a_field_of_any_type(value: Any) -> None:
    with pytest.raises(synk.InvalidJob, match=r"args\.anything") as caught:
        encode_args(Aliased.model_validate({"Width": 1, "anything": value}))

    assert "geheim" not in str(caught.value)


def test_a_type_that_no_worker_could_read_is_refused_by_its_field() -> None:
    with pytest.raises(synk.InvalidJob, match=r"args\.path=.*Path"):
        encode_args(Located(Path("/a")))


@pytest.mark.parametrize("args_type", [Resize, Renamed, Open, Secretive])
def test_arguments_that_are_null_are_the_defaults(args_type: Any) -> None:
    assert from_null(decoder_of(args_type), "null") == args_type()


@pytest.mark.parametrize(("args_type", "name"), [(Doubling, "n"), (Strict, "at"), (Aliased, "dth")])
def test_arguments_that_are_null_name_the_field_that_has_no_default(
    args_type: Any, name: str
) -> None:
    with pytest.raises(ValueError, match=name):
        from_null(decoder_of(args_type), " null ")


@pytest.mark.parametrize("name", [each.name for each in fields(synk.InsertOptions)])
def test_an_option_of_an_insert_is_refused_in_a_class_of_arguments(name: str) -> None:
    with pytest.raises(synk.InvalidJob, match=rf"insert with InsertOptions\({name}=\.\.\.\)"):
        type("Args", (synk.JobArgs,), {}, kind="args", **{name: None})
