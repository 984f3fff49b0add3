"""From an exception to its record."""

from __future__ import annotations

import linecache
from collections import deque
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, cast

from synk.remote_traceback.record import (
    HEAD_SHARE,
    LIMITS,
    MEMBERS_MAX,
    MESSAGE_CHARACTERS_MAX,
    NOTES_MAX,
    walk,
)
from synk.remote_traceback.text import clean_text, one_line, own_name, safely

if TYPE_CHECKING:
    from synk.remote_traceback.record import ExceptionRecord, FrameRecord, Look, Relation


def capture(exception: BaseException, *, skip_frames: int = 0) -> ExceptionRecord:
    """Builds the record of *exception*, its chain and its members. Does not raise.

    Args:
        exception: it need not be well-behaved; each piece that cannot be read is replaced.
        skip_frames: how many of its outermost frames are the caller's own machinery.
    """

    def look(source: object) -> Look:
        seen = cast("BaseException", source)
        return _look_at_exception(seen, skip_frames if seen is exception else 0)

    try:
        return walk(exception, look, LIMITS)
    except BaseException:  # noqa: BLE001 - no stack or memory left: a poor record beats none
        return {"type": "<unreportable>", "module": "", "message": "error while reporting error"}


def _look_at_exception(exception: BaseException, skip_frames: int) -> Look:
    record: ExceptionRecord = {
        "type": own_name(exception),
        "module": one_line(safely(partial(getattr, type(exception), "__module__"), "<unknown>")),
        "message": clean_text(exception, MESSAGE_CHARACTERS_MAX),
    }
    if notes := safely(partial(_notes, exception), ["<the notes cannot be read>"]):
        record["notes"] = notes
    frames, omitted = safely(partial(_frames, exception, skip_frames), ([], 0))
    if frames:
        record["frames"] = frames
    if omitted:
        record["omitted"] = omitted
    if safely(lambda: bool(exception.__suppress_context__), otherwise=False):
        record["suppress_context"] = True
    linked: list[tuple[Relation, object]] = []
    for relation in ("cause", "context"):
        other = safely(partial(getattr, exception, f"__{relation}__"), None)
        if _is_exception(other):
            linked.append((relation, other))
    if issubclass(type(exception), BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exception)
        safely(partial(_add_members, group, record, linked), None)
    return record, linked


def _add_members(
    group: BaseExceptionGroup[BaseException],
    record: ExceptionRecord,
    linked: list[tuple[Relation, object]],
) -> None:
    record["group_message"] = clean_text(group.message, MESSAGE_CHARACTERS_MAX)
    members = group.exceptions
    first = islice(members, MEMBERS_MAX)
    linked.extend(("exceptions", member) for member in first if _is_exception(member))
    if (beyond := len(members) - MEMBERS_MAX) > 0:
        record["left_out"] = beyond


def _notes(exception: BaseException) -> list[str]:
    notes: object = getattr(exception, "__notes__", None)
    if notes is None:
        return []
    if not isinstance(notes, list):
        return [clean_text(notes, MESSAGE_CHARACTERS_MAX // 4)]
    # list's own method: a subclass may iterate for ever
    first = list[object].__getitem__(cast("list[object]", notes), slice(NOTES_MAX))
    return [clean_text(note, MESSAGE_CHARACTERS_MAX // 4) for note in first]


def _frames(exception: BaseException, skip: int) -> tuple[list[FrameRecord], int]:
    """Gives the first 20 and the last 80 frames, and how many lie between."""
    head_size = LIMITS.frames // HEAD_SHARE
    head: list[TracebackType] = []
    tail: deque[TracebackType] = deque(maxlen=LIMITS.frames - head_size)
    count = -skip
    entry: object = exception.__traceback__
    while type(entry) is TracebackType:  # it cannot be subclassed, so an impostor ends the walk
        if 0 <= count < head_size:
            head.append(entry)
        elif count >= head_size:
            tail.append(entry)
        count += 1
        entry = entry.tb_next
    kept = [*head, *tail]
    blank: FrameRecord = {"file": "?", "line": 0, "function": "?", "module": "", "text": ""}
    return [safely(partial(_frame, entry), blank) for entry in kept], max(count - len(kept), 0)


def _frame(entry: TracebackType) -> FrameRecord:
    frame, code = entry.tb_frame, entry.tb_frame.f_code
    line = entry.tb_lineno or 0
    source = partial(linecache.getline, code.co_filename, line, frame.f_globals)
    return {
        "file": one_line(code.co_filename),
        "line": line,
        "function": one_line(code.co_name),
        "module": one_line(
            safely(lambda: dict[str, object].get(frame.f_globals, "__name__", ""), "")
        ),
        "text": one_line(safely(source, "").strip()),
    }


def _is_exception(value: object) -> bool:
    return issubclass(type(value), BaseException)  # isinstance would ask the value's __class__
