"""The record of an exception: its shape, its limits, and the way through its chain and members."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypedDict

from synk.remote_traceback.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MESSAGE_CHARACTERS_MAX: Final = 4096
NOTES_MAX: Final = 10
MEMBERS_MAX: Final = 50
"""Sub-exceptions in a record; groups within groups count too."""

_LINKS_MAX: Final = 10
"""How far a chain of causes and contexts is followed."""
_GROUP_DEPTH_MAX: Final = 5

HEAD_SHARE: Final = 5
"""Of the frames that are kept, one in five is from the start: 20 and 80."""


class FrameRecord(TypedDict):
    """One entry of a traceback, outermost first.

    Attributes:
        file: the path of the source, as the worker knew it.
        line: the number of the line, from 1; 0: not known.
        function: the name of the function.
        module: the name of its module.
        text: the source line as the worker saw it, without indentation; empty if it had none.
    """

    file: str
    line: int
    function: str
    module: str
    text: str


class ExceptionRecord(TypedDict, total=False):
    """An exception as JSON. Beyond `type`, `module` and `message`, what is empty is left out.

    Attributes:
        type: the qualified name of the class, without its module.
        module: the module of the class.
        message: the exception's text; at most 4096 characters.
        group_message: a group's own text, without the count of its sub-exceptions.
        notes: what was added by `add_note`; at most 10.
        frames: its traceback; at most 100 entries, the first fifth and the last ones.
        omitted: frames left out behind the first fifth of `frames`.
        suppress_context: whether it was raised ``from`` something, so that the context is not
            shown.
        cause: what it was raised ``from``.
        context: what was being handled when it was raised.
        exceptions: the members of a group.
        left_out: direct causes, contexts and members that a limit kept out.
    """

    type: str
    module: str
    message: str
    group_message: str
    notes: list[str]
    frames: list[FrameRecord]
    omitted: int
    suppress_context: bool
    cause: ExceptionRecord
    context: ExceptionRecord
    exceptions: list[ExceptionRecord]
    left_out: int


Relation: TypeAlias = Literal["cause", "context", "exceptions"]
Look: TypeAlias = tuple[ExceptionRecord, list[tuple[Relation, object]]]
"""An exception's own record, and what is linked to it: still to be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLimits:
    """How large a record may get; the defaults are those of `capture`.

    Attributes:
        frames: for each exception; 100 by default.
        exceptions: in the whole record: the exception itself, its chain, and the members of groups;
            64 by default.
        characters: of each message, 4096 by default; a note has a quarter of it.
    """

    frames: int = 100
    exceptions: int = 64
    characters: int = MESSAGE_CHARACTERS_MAX


LIMITS: Final = RecordLimits()


def type_name(record: Mapping[str, object]) -> str:
    """Returns the class as ``module.Class``, or only ``Class`` for a built-in one."""
    module, name = record.get("module", ""), one_line(record.get("type", "<unknown>"))
    return name if module in ("", "builtins") else f"{one_line(module)}.{name}"


def all_notes(record: ExceptionRecord) -> list[str]:
    """Returns its notes; the last one says how much was left out."""
    left_out = record.get("left_out", 0)
    mark = [f"[… {left_out} more linked or grouped exception(s) left out …]"] if left_out else []
    return [*record.get("notes", []), *mark]


class _Pending(NamedTuple):
    """An exception (or its record) that is still to be looked at."""

    source: object
    relation: Relation
    parent: ExceptionRecord | None
    links: int
    depth: int


def walk(root: object, look: Callable[[object], Look], limits: RecordLimits) -> ExceptionRecord:
    """Goes depth first through chain and members; what a limit keeps out is counted.

    Causes come before contexts and both before members, so that a wide group does not crowd out
    its own cause. An exception that was seen before is not repeated, as in Python's formatting.
    """
    seen: dict[int, object] = {}  # holds the objects too, so that no id is used twice
    top: list[ExceptionRecord] = []
    members = 0
    pending = [_Pending(root, "cause", None, 0, 0)]
    while pending:
        step = pending.pop()
        if step.parent is not None:
            is_known, is_member = id(step.source) in seen, step.relation == "exceptions"
            is_too_far = step.links > _LINKS_MAX or step.depth > _GROUP_DEPTH_MAX
            is_full = len(seen) >= limits.exceptions or (is_member and members >= MEMBERS_MAX)
            if is_known or is_too_far or is_full:
                if is_member or not is_known:
                    step.parent["left_out"] = step.parent.get("left_out", 0) + 1
                continue
            members += is_member
        seen[id(step.source)] = step.source
        record, linked = look(step.source)
        _attach(record, step, top)
        for relation, source in reversed(linked):
            is_member = relation == "exceptions"
            links, depth = step.links + (not is_member), step.depth + is_member
            pending.append(_Pending(source, relation, record, links, depth))
    return top[0]


def _attach(record: ExceptionRecord, step: _Pending, top: list[ExceptionRecord]) -> None:
    if step.parent is None:
        top.append(record)
    elif step.relation == "exceptions":
        step.parent.setdefault("exceptions", []).append(record)
    else:
        step.parent[step.relation] = record
