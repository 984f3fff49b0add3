"""From a record to an exception with a traceback."""

from __future__ import annotations

import builtins
import linecache
from types import TracebackType
from typing import TYPE_CHECKING, Final, cast

import tblib  # pyright: ignore[reportMissingTypeStubs]

from synk.errors import RemoteError
from synk.remote_traceback.checking import check_record
from synk.remote_traceback.record import HEAD_SHARE, all_notes, type_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.remote_traceback.record import ExceptionRecord, FrameRecord

_SOURCE_FILES_MAX: Final = 256
_SOURCE_LINES_MAX: Final = 20_000
"""Bound what rebuilt exceptions put into `linecache` (a list is padded up to the line)."""

_NEVER_REBUILT: Final = (
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
)
"""They steer the interpreter: raised here, they would end the viewer's process or loop."""


def rebuild(record: Mapping[str, object]) -> BaseException:
    """Returns an exception to raise or show here, with the remote frames as its traceback.

    A built-in class is rebuilt as itself if its text alone makes one; every other becomes a
    `RemoteError`, and a group of any class a built-in group. Files are named ``<remote /path>``:
    nothing reads a file with such a name from this machine's disk.
    """
    return _rebuilt(check_record(record))


def _rebuilt(record: ExceptionRecord) -> BaseException:
    """Recurses once for each link and group, which `check_record` has limited to 15 on a path."""
    exception = _rebuilt_group(record) or _rebuilt_builtin(record)
    if exception is None:
        exception = RemoteError(type_name(record), record.get("message", ""))
    for note in all_notes(record):
        exception.add_note(note)
    if "cause" in record:
        exception.__cause__ = _rebuilt(record["cause"])
    if "context" in record:
        exception.__context__ = _rebuilt(record["context"])
    exception.__suppress_context__ = "cause" in record or bool(record.get("suppress_context"))
    return exception.with_traceback(_rebuilt_traceback(record))


def _rebuilt_group(record: ExceptionRecord) -> BaseException | None:
    members = [_rebuilt(member) for member in record.get("exceptions", [])]
    if not members:
        return None
    name, message = type_name(record), record.get("group_message", record.get("message", ""))
    is_builtin = name in ("ExceptionGroup", "BaseExceptionGroup")
    return BaseExceptionGroup(message if is_builtin else f"{name}: {message}", members)


class _Verbatim(str):
    """A text whose repr is the text: `KeyError` shows the repr of its argument."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str.__str__(self)


def _rebuilt_builtin(record: ExceptionRecord) -> BaseException | None:
    found: object = vars(builtins).get(type_name(record))
    if not isinstance(found, type) or not issubclass(found, BaseException):
        return None
    if issubclass(found, _NEVER_REBUILT):
        return None
    message = record.get("message", "")
    for arguments in ((message,) if message else (), (_Verbatim(message),)):
        try:
            exception = found(*arguments)
            if str(exception) == message:
                return exception
        except Exception:  # noqa: BLE001, S112 - UnicodeDecodeError and the like need more
            continue
    return None


def _rebuilt_traceback(record: ExceptionRecord) -> TracebackType | None:
    frames, omitted = record.get("frames", []), record.get("omitted", 0)
    places = [_tblib_dict(frame) for frame in frames]
    if omitted:
        places.insert(len(frames) // HEAD_SHARE, _tblib_place(f"<{omitted} frames left out>", "…"))
    rebuilt: TracebackType | None = None
    for place in reversed(places):
        entry = _stand_in(place)
        # -1 for "no instruction": the code is a stand-in, carets from it would be wrong
        rebuilt = TracebackType(rebuilt, entry.tb_frame, -1, entry.tb_lineno)
    return rebuilt


def _stand_in(place: dict[str, object]) -> TracebackType:
    single = tblib.Traceback.from_dict(place)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return cast("TracebackType", single.as_traceback())  # pyright: ignore[reportUnknownMemberType]


def _tblib_dict(frame: FrameRecord) -> dict[str, object]:
    file, line = f"<remote {frame['file']}>", max(frame["line"], 1)
    if frame["text"]:
        _show_source(file, line, frame["text"])
    return _tblib_place(file, frame["function"], module=frame["module"], line=line)


def _tblib_place(file: str, function: str, *, module: str = "", line: int = 1) -> dict[str, object]:
    """Gives one frame in the shape of `tblib.Traceback.as_dict`."""
    frame = {
        "f_globals": {"__name__": module, "__file__": file},
        "f_locals": {},
        "f_code": {"co_filename": file, "co_name": function},
        "f_lineno": line,
    }
    return {"tb_frame": frame, "tb_lineno": line, "tb_next": None}


def _show_source(file: str, line: int, text: str) -> None:
    """Puts the worker's source line where `traceback` and debuggers look for it.

    An entry without a modification time is never checked against the disk, and a bracketed name is
    never opened, even when the entry is gone. The oldest files make room for new ones; a traceback
    of theirs is then shown without source lines.
    """
    if line > _SOURCE_LINES_MAX:
        return
    ours = [name for name in list(linecache.cache) if name.startswith("<remote ")]
    for name in ours[: max(0, len(ours) - _SOURCE_FILES_MAX + 1)]:
        if name != file:
            linecache.cache.pop(name, None)
    entry = linecache.cache.get(file)
    lines = list(entry[2]) if entry is not None and len(entry) == 4 else []
    lines += ["\n"] * (line - len(lines))
    lines[line - 1] = f"{text}\n"
    linecache.cache[file] = (0, None, lines, file)
