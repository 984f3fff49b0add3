"""From a record of unknown origin to one that can be relied on."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, cast

from synk.remote_traceback.record import HEAD_SHARE, LIMITS, NOTES_MAX, walk
from synk.remote_traceback.text import clean_text, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.remote_traceback.record import (
        ExceptionRecord,
        FrameRecord,
        Look,
        RecordLimits,
        Relation,
    )

_LINE_MAX: Final = 2**31 - 2
"""What the interpreter can hold as a line number."""


def check_record(record: object, limits: RecordLimits = LIMITS) -> ExceptionRecord:
    """Returns a copy of *record* with the right types, clean texts, and within *limits*.

    It takes anything: what is missing or of another type is replaced, unknown keys are dropped.
    """
    return walk(record, partial(_look_at_record, limits=limits), limits)


def _look_at_record(source: object, *, limits: RecordLimits) -> Look:
    given = _mapping(source)
    record: ExceptionRecord = {
        "type": one_line(given.get("type", "<unknown>")),
        "module": one_line(given.get("module", "")),
        "message": clean_text(given.get("message", ""), limits.characters),
    }
    if "group_message" in given:
        record["group_message"] = clean_text(given["group_message"], limits.characters)
    if notes := _listed(given.get("notes"))[:NOTES_MAX]:
        record["notes"] = [clean_text(note, limits.characters // 4) for note in notes]
    _add_frames(record, given, limits.frames)
    if given.get("suppress_context") is True:
        record["suppress_context"] = True
    if left_out := _count(given.get("left_out")):
        record["left_out"] = left_out
    members = _listed(given.get("exceptions"))
    linked: list[tuple[Relation, object]] = [
        ("cause", given.get("cause")),
        ("context", given.get("context")),
        *(("exceptions", member) for member in members),
    ]
    return record, [(relation, found) for relation, found in linked if isinstance(found, dict)]


def _add_frames(record: ExceptionRecord, given: Mapping[str, object], most: int) -> None:
    frames, omitted = _listed(given.get("frames")), _count(given.get("omitted"))
    if len(frames) > most:
        head = most // HEAD_SHARE
        omitted += len(frames) - most
        frames = frames[:head] + frames[len(frames) - (most - head) :]
    if frames:
        record["frames"] = [_checked_frame(_mapping(frame)) for frame in frames]
    if omitted:
        record["omitted"] = omitted


def _checked_frame(given: Mapping[str, object]) -> FrameRecord:
    return {
        "file": one_line(given.get("file", "?")),
        "line": min(_count(given.get("line")), _LINE_MAX),
        "function": one_line(given.get("function", "?")),
        "module": one_line(given.get("module", "")),
        "text": one_line(given.get("text", "")),
    }


def _mapping(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _listed(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _count(value: object) -> int:
    return value if type(value) is int and 0 <= value < 2**63 else 0
