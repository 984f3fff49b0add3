from __future__ import annotations

import functools
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import msgspec
import pydantic
import pytest

import synk
from support.jobs import handlers, validated
from synk.arguments import encode_args
from synk.registry import Registry


@dataclass
class Floaty(synk.JobArgs, kind="floaty"):
    value: Any = 0.0
    nested: dict[str, Any] = field(default_factory=dict)


def floaty(job: synk.Job[Floaty]) -> None:
    """Does nothing."""


class Renamed(msgspec.Struct):
    value: float = msgspec.field(name="other")


class Inner(pydantic.BaseModel):
    value: float


class Measured(pydantic.BaseModel):
    kind: ClassVar[str] = "measured"
    values: set[float] = set()
    inner: Inner | None = None


class Inherited(handlers.Misbehaver):
    pass


def test_the_kind_of_a_function_comes_from_its_annotation() -> None:
    assert Registry([handlers.noop]).kinds == ["noop"]


def test_a_decorated_function_is_still_that_function() -> None:
    assert handlers.struct.__name__ == "struct"

    class FakeJob:
        args = handlers.StructArgs(path="here")

    assert handlers.struct(FakeJob()) == "here"  # type: ignore[arg-type]


def test_the_kind_of_a_class_may_come_from_its_base() -> None:
    assert Registry([Inherited()]).kinds == ["misbehave"]


def test_two_workers_for_one_kind_are_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match="a second one for 'misbehave'"):
        Registry([handlers.Misbehaver(), Inherited()])


@pytest.mark.parametrize("item", [handlers.Misbehaver, len, "noop", None])
def test_what_is_no_worker_is_refused(item: object) -> None:
    with pytest.raises(synk.ConfigurationError, match="workers="):
        Registry([item])


def test_a_function_without_annotation_is_refused() -> None:
    def plain(job):
        pass

    with pytest.raises(synk.ConfigurationError, match="annotate its parameter"):
        synk.worker(plain)


async def awaited(job: synk.Job[handlers.Noop]) -> None:
    pass


def generating(job: synk.Job[handlers.Noop]):
    yield 1


async def both(job: synk.Job[handlers.Noop]):
    yield 1


@pytest.mark.parametrize("function", [awaited, generating, both, functools.partial(awaited)])
def test_a_handler_that_a_call_does_not_run_is_refused_with_what_to_write(function: Any) -> None:
    with pytest.raises(synk.ConfigurationError, match=r"write .*def"):
        synk.worker(function)

    class Method(synk.Worker[handlers.Noop]):
        work = staticmethod(function)

    with pytest.raises(synk.ConfigurationError, match=r"workers=.*write .*def"):
        Registry([Method()])


class Forgotten(synk.JobArgs, kind="forgotten"):
    path: str


class Half(handlers.Noop, kind="half"):
    more: int = 1


def test_a_forgotten_dataclass_is_refused_with_what_to_write() -> None:
    for use in (
        lambda: Forgotten("a"),
        Forgotten,
        lambda: encode_args(Half()),
    ):
        with pytest.raises(synk.InvalidJob, match="write @dataclass above"):
            use()

    @synk.worker
    def handler(job: synk.Job[Half]) -> None:
        pass

    with pytest.raises(synk.ConfigurationError, match="write @dataclass above"):
        Registry([handler])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("queue", r"InsertOptions\(queue=\.\.\.\)"), ("timeout", r"@synk\.worker\(timeout=\.\.\.\)")],
)
def test_an_option_of_a_class_of_arguments_is_refused_with_what_to_write(
    name: str, hint: str
) -> None:
    with pytest.raises(synk.InvalidJob, match=hint):
        type("Slow", (synk.JobArgs,), {}, kind="slow", **{name: "x"})


def test_arguments_without_a_kind_are_refused() -> None:
    with pytest.raises(synk.InvalidJob, match="no class attribute kind"):
        encode_args({"path": "a"})


@pytest.mark.parametrize("wrong", [timedelta(0), timedelta(-1), timedelta(days=31), timedelta.max])
def test_p9_a_timeout_that_is_none_or_endless_is_refused_at_once(wrong: timedelta) -> None:
    with pytest.raises(synk.ConfigurationError, match="timeout="):
        synk.worker(timeout=wrong)(handlers.noop._function)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (handlers.Typed(1, ["x"]), ("typed", '{"count":1,"tags":["x"]}')),
        (handlers.StructArgs(path="a\\b"), ("struct", '{"path":"a\\\\b"}')),
        (validated.ModelArgs(width=3), ("model", '{"width":3}')),
        (Floaty(None), ("floaty", '{"value":null,"nested":{}}')),
        (Floaty("\\u0000"), ("floaty", '{"value":"\\\\u0000","nested":{}}')),
        (Floaty("null"), ("floaty", '{"value":"null","nested":{}}')),
    ],
)
def test_p6_arguments_become_json(args: object, expected: tuple[str, str]) -> None:
    assert encode_args(args) == expected


@pytest.mark.parametrize(
    ("args", "field_name"),
    [
        (Floaty(float("nan")), "args.value"),
        (Floaty(float("inf")), "args.value"),
        (Floaty(nested={"a": [1, float("nan")]}), "args.nested.a[1]"),
        (Floaty(nested={1: float("nan")}), "args.nested.1"),  # type: ignore[dict-item]
        (Floaty((1.0, float("nan"))), "args.value[1]"),
        (Floaty({float("-inf")}), "args.value[0]"),
        (Floaty(Renamed(float("nan"))), "args.value.other"),
        (Measured(values={float("inf")}), "args.values[0]"),
        (Measured(inner=Inner(value=float("nan"))), "args.inner.value"),
        (Floaty("a\x00b"), "args.value"),
        (Floaty(nested={"a\x00": 1}), "args.nested"),
        (Floaty(object()), "args"),
        (Floaty("\ud800"), "args"),
        (Floaty("x" * 1_100_000), "args"),
        (Floaty("ü" * 600_000), "args"),
        (Floaty(10**5000), "args"),
        (Floaty({(1, 2): 3}), "args"),
        (Floaty, "args"),
    ],
)
def test_p6_arguments_that_cannot_be_stored_name_the_place(args: object, field_name: str) -> None:
    with pytest.raises(synk.InvalidJob) as caught:
        encode_args(args)

    assert caught.value.field == field_name


def test_a_kind_must_be_a_string() -> None:
    class Wrong(msgspec.Struct):
        kind: ClassVar[int] = 7

    with pytest.raises(synk.InvalidJob, match="kind"):
        encode_args(Wrong())


def test_a_pydantic_field_is_no_kind() -> None:
    class Wrong(pydantic.BaseModel):
        kind: str = "wrong"

    with pytest.raises(synk.InvalidJob, match="ClassVar"):
        encode_args(Wrong())


def test_the_limit_of_a_kind_is_that_of_its_worker() -> None:
    limit = synk.Limit("tenant", key="args.value", running=4)

    limited = synk.worker(limit=limit)(floaty)

    assert Registry([limited, handlers.noop]).limits == {"floaty": limit}


def test_a_limit_whose_key_leads_nowhere_in_the_arguments_is_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match="leads nowhere in Floaty"):
        synk.worker(limit=synk.Limit("tenant", key="args.tenant"))(floaty)

    class Limited(handlers.Misbehaver):
        limit = synk.Limit("tenant", key="args.tenant")

    with pytest.raises(synk.ConfigurationError, match="leads nowhere in"):
        Registry([Limited()])


def test_two_limits_of_one_name_that_say_different_things_are_refused() -> None:
    class Limited(handlers.Misbehaver):
        limit = synk.Limit("tenant", running=5)

    other = synk.worker(limit=synk.Limit("tenant", running=4))(floaty)

    with pytest.raises(synk.ConfigurationError, match="has the name of"):
        Registry([Limited(), other])


def test_what_is_no_limit_is_refused() -> None:
    with pytest.raises(synk.ConfigurationError, match=r"limit.*must be a synk.Limit"):
        synk.worker(limit=4)(floaty)  # type: ignore[arg-type]
    with pytest.raises(synk.ConfigurationError, match=r"limit.*must be a synk.Limit"):
        synk.QueueConfig(limit=4)  # type: ignore[arg-type]
