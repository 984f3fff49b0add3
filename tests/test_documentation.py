"""What `help()` and an editor show of the public names: every field, parameter and error."""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

import msgspec

import synk
from synk import errors, telemetry

NOUNS = [
    "arguments", "bulk", "claim", "config", "errors", "failure", "insertion", "job", "limit",
    "periodic", "queues", "registry", "remote_traceback.record", "retry", "row", "schedules",
    "setting",
    "status", "storage.base", "storage.bulking", "storage.inspection", "storage.limiting",
    "storage.scheduling", "storage.settings", "storage.sweeping", "storage.uniqueness",
    "telemetry", "telemetry.fact", "telemetry.jobs", "telemetry.periodic", "telemetry.subscribers",
    "telemetry.supervisors", "testing", "testing.making", "unique",
]  # fmt: skip
"""The modules whose classes users get to see, by name or as what another one of them gives."""

ABOUT_VALUES = {"ConfigurationError", "InvalidJob", "InvalidValue"}
"""A call that gives no value gets none of these."""

SECTION = r"^{}:\n((?:    .*\n|\n)+)"
ENTRY = re.compile(r"^    (\w+):", re.MULTILINE)
ELSEWHERE = re.compile(r"See `(?:(\w+)\.)?(\w+)`")


def modules() -> list[ModuleType]:
    return [importlib.import_module(f"synk.{name}") for name in NOUNS]


def classes() -> list[type]:
    found = {
        each
        for module in modules()
        for name, each in vars(module).items()
        if inspect.isclass(each) and each.__module__ == module.__name__ and not name.startswith("_")
    }
    found |= {each for name in synk.__all__ if inspect.isclass(each := getattr(synk, name))}
    return sorted(found, key=lambda each: f"{each.__module__}.{each.__qualname__}")


def functions() -> Iterator[tuple[str, Any, type | None]]:
    """The public functions and methods, each with its class."""
    yield "worker", synk.worker, None
    for name, each in vars(telemetry).items():
        if isinstance(each, FunctionType):
            yield name, each, None
    for cls in classes():
        for name, each in vars(cls).items():
            function = inspect.unwrap(getattr(each, "__func__", each))
            if isinstance(function, FunctionType) and not name.startswith(("_", "test_")):
                yield f"{cls.__name__}.{name}", function, cls


def constructors() -> Iterator[tuple[type, Any]]:
    for cls in classes():
        if not issubclass(cls, (enum.Enum, BaseException)):
            for name in ("__init__", "__post_init__"):
                if isinstance(each := vars(cls).get(name), FunctionType) and has_source(each):
                    yield cls, each


def has_source(function: FunctionType) -> bool:
    return not function.__code__.co_filename.startswith("<")


def told(section: str, item: object) -> set[str]:
    """The names that a section of a docstring explains."""
    found = re.search(SECTION.format(section), f"{inspect.getdoc(item)}\n", re.MULTILINE)
    return set(ENTRY.findall(found[1])) if found else set()


def of_fields(cls: type) -> set[str]:
    """The names of the fields that a class itself explains."""
    return told("Attributes", cls) | told("Args", cls)


def fields_of(cls: type) -> list[str]:
    """The names of what a value of this class holds, and of the members of an enum."""
    if issubclass(cls, enum.Enum):
        names = list(cls.__members__)
    elif issubclass(cls, msgspec.Struct):
        names = [field.name for field in msgspec.structs.fields(cls)]
    elif dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
    else:
        names = [*vars(cls).get("__annotations__", {}), *attributes_set(cls)]
    return [name for name in names if not name.startswith("_")]


def attributes_set(cls: type) -> list[str]:
    return [
        each.attr
        for each in ast.walk(tree_of(cls))
        if isinstance(each, ast.Attribute)
        and isinstance(each.ctx, ast.Store)
        and ast.unparse(each.value) == "self"
    ]


@functools.cache
def tree_of(item: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(item)))


def elsewhere(doc: str, cls: type | None) -> Any:
    """The function that a docstring of a class sends its reader to."""
    if not (found := ELSEWHERE.match(doc)):
        return None
    if found[1] is not None:
        cls = next(each for each in classes() if each.__name__ == found[1])
    return getattr(cls or synk, found[2])


def parameters_of(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    named = (
        each for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    )
    return [each.name for each in named if each.name not in ("self", "cls")]


def is_said(name: str, doc: str) -> bool:
    return re.search(rf"\*{name}\*|^ +{name}:", doc, re.MULTILINE) is not None


def errors_of(function: Any, cls: type | None) -> set[str]:
    """The errors that a function raises, and those that what it calls says that it raises."""
    raised: set[str] = set()
    for node in ast.walk(tree_of(function)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            raised.add(ast.unparse(node.exc.func))
        elif isinstance(node, ast.Call):
            theirs = errors_of_call(ast.unparse(node.func), function, cls)
            raised |= theirs if node.args or node.keywords else theirs - ABOUT_VALUES
    for node in ast.walk(tree_of(function)):
        if isinstance(node, ast.ExceptHandler) and "raise\n" not in f"{ast.unparse(node)}\n":
            raised -= set(re.findall(r"\w+", ast.unparse(node.type) if node.type else ""))
    return {name for name in raised if hasattr(errors, name)}


def errors_of_call(called: str, function: Any, cls: type | None) -> set[str]:
    own = called.removeprefix("self.")
    if own.startswith("storage.") and own != "storage.close":
        return {"StorageUnavailable"}
    callee = vars(cls).get(own) if own != called and cls is not None else None
    callee = callee or function.__globals__.get(called)
    if not str(getattr(callee, "__module__", "")).startswith("synk."):
        return set()
    is_own_matter = isinstance(callee, FunctionType) and callee.__name__.startswith("_")
    return errors_of(callee, cls) if is_own_matter else told("Raises", callee)


def unsaid_errors(function: Any, cls: type | None, documented: set[str]) -> set[str]:
    said = [getattr(errors, name) for name in documented if hasattr(errors, name)]
    return {
        name
        for name in errors_of(function, cls)
        if not any(
            issubclass(raised := getattr(errors, name), each) or issubclass(each, raised)
            for each in said
        )
    }


def test_help_names_every_field_of_a_public_class() -> None:
    unsaid = {
        cls.__qualname__: missing
        for cls in classes()
        if (missing := set(fields_of(cls)) - set().union(*map(of_fields, cls.__mro__)))
    }

    assert unsaid == {}


def test_no_string_follows_a_field_where_help_does_not_look() -> None:
    found = [
        f"{module.__name__}:{after.lineno}"
        for module in modules()
        for node in ast.walk(tree_of(module))
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
        for field, after in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, (ast.Assign, ast.AnnAssign))
        and not ast.unparse(field).startswith(("_", "self._"))
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    ]

    assert found == []


def test_help_names_every_parameter_of_a_public_function() -> None:
    unsaid: dict[str, set[str]] = {}
    for name, function, cls in functions():
        doc = inspect.getdoc(function) or ""
        expected = set(parameters_of(function))
        if (other := elsewhere(doc, cls)) is not None:
            expected -= set(parameters_of(other))
        if missing := {each for each in expected if not is_said(each, doc)}:
            unsaid[name] = missing

    assert unsaid == {}


def test_help_names_every_parameter_of_a_public_constructor() -> None:
    unsaid: dict[str, set[str]] = {}
    for cls, make in constructors():
        parameters = parameters_of(make) if make.__name__ == "__init__" else []
        if missing := set(parameters) - told("Args", cls) - told("Attributes", cls):
            unsaid[cls.__name__] = missing

    assert unsaid == {}


def test_help_names_every_error_of_a_public_function() -> None:
    unsaid: dict[str, set[str]] = {}
    for name, function, cls in functions():
        other = elsewhere(inspect.getdoc(function) or "", cls)
        documented = told("Raises", function) | (told("Raises", other) if other else set())
        if missing := unsaid_errors(function, cls, documented):
            unsaid[name] = missing

    assert unsaid == {}


def test_help_names_every_error_of_a_public_constructor() -> None:
    unsaid = {
        cls.__name__: missing
        for cls, make in constructors()
        if (missing := unsaid_errors(make, cls, told("Raises", cls)))
    }

    assert unsaid == {}
