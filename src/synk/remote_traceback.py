"""An exception as plain data: captured in the worker, formatted or rebuilt anywhere.

    exception --capture--> ExceptionRecord (JSON) --format_exception--> text, as Python prints it
                                                  --rebuild-----------> exception with a traceback

Guarantees: no exception object, pickle or local variable gets into a record. `capture` does not
raise, whatever the exception's own methods do. Nothing recurses once per frame or per link of a
chain. A record that comes from the database is not trusted: nothing in it is imported, run or
opened as a file, and `check_record` holds it to the same limits as `capture` does.

Assumes that the exception is captured where it was caught, so that the stack is shallow again.
"""

from __future__ import annotations

import builtins
import linecache
import re
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias, TypedDict, TypeVar, cast

import tblib  # pyright: ignore[reportMissingTypeStubs]

from synk.errors import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = [
    "ExceptionRecord",
    "FrameRecord",
    "RecordLimits",
    "capture",
    "check_record",
    "clean_text",
    "format_exception",
    "one_line",
    "rebuild",
    "type_name",
]

T = TypeVar("T")

MESSAGE_CHARACTERS_MAX: Final = 4096
TRACE_CHARACTERS_MAX: Final = 32 * 1024
_NOTES_MAX: Final = 10
_LABEL_CHARACTERS_MAX: Final = 400
"""File, function, module and class names, and source lines."""

_LINKS_MAX: Final = 10
"""How far a chain of causes and contexts is followed."""
_GROUP_DEPTH_MAX: Final = 5
_MEMBERS_MAX: Final = 50
"""Sub-exceptions in a record; groups within groups count too."""

_HEAD_SHARE: Final = 5
"""Of the frames that are kept, one in five is from the start: 20 and 80."""
_LINE_MAX: Final = 2**31 - 2
"""What the interpreter can hold as a line number."""

_SOURCE_FILES_MAX: Final = 256
_SOURCE_LINES_MAX: Final = 20_000
"""Bound what rebuilt exceptions put into `linecache` (a list is padded up to the line)."""

_UNCLEAN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CAUSE_LINES: Final = (
    "",
    "The above exception was the direct cause of the following exception:",
    "",
)
_CONTEXT_LINES: Final = (
    "",
    "During handling of the above exception, another exception occurred:",
    "",
)
_REPEATS_SHOWN: Final = 3
"""Equal frames in a row that are printed; the number is that of Python's own formatting."""

_NEVER_REBUILT: Final = (
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
    StopAsyncIteration,
)
"""They steer the interpreter: raised here, they would end the viewer's process or loop."""


class FrameRecord(TypedDict):
    """One entry of a traceback, outermost first."""

    file: str
    line: int
    function: str
    module: str
    text: str
    """The source line as the worker saw it, without indentation; empty if it had none."""


class ExceptionRecord(TypedDict, total=False):
    """An exception as JSON. Beyond `type`, `module` and `message`, what is empty is left out."""

    type: str
    """The qualified name of the class, without its module."""
    module: str
    message: str
    group_message: str
    """A group's own text, without the count of its sub-exceptions."""
    notes: list[str]
    frames: list[FrameRecord]
    omitted: int
    """Frames left out behind the first fifth of `frames`."""
    suppress_context: bool
    cause: ExceptionRecord
    context: ExceptionRecord
    exceptions: list[ExceptionRecord]
    """The members of a group."""
    left_out: int
    """Direct causes, contexts and members that a limit kept out."""


_Place: TypeAlias = Literal["cause", "context", "exceptions"]
_Look: TypeAlias = "Callable[[object], tuple[ExceptionRecord, list[tuple[_Place, object]]]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLimits:
    """How large a record may get; the defaults are those of `capture`."""

    frames: int = 100
    """For each exception."""
    exceptions: int = 64
    """In the whole record: the exception itself, its chain, and the members of groups."""
    characters: int = MESSAGE_CHARACTERS_MAX
    """Of each message; a note has a quarter of it."""


_LIMITS: Final = RecordLimits()


class _Pending(NamedTuple):
    """An exception (or its record) that is still to be looked at."""

    source: object
    place: _Place
    parent: ExceptionRecord | None
    links: int
    depth: int


# --- text ----------------------------------------------------------------------------------------


def clean_text(text: object, limit: int) -> str:
    r"""Returns *text* as at most *limit* characters that any JSON, database and terminal can take.

    NUL becomes U+2400 and a lone surrogate U+FFFD; other control characters (C0 but for newline and
    tab, DEL, C1) are written as ``\xNN``, so no escape sequence survives. What is too long loses
    its middle, and says how many characters that were. Cleaning twice changes nothing. Bytes are
    read as UTF-8; any other object by its ``str()``, and if that fails the text says so.
    """
    try:
        raw = _raw_text(text)
    except BaseException as error:  # noqa: BLE001 - a hostile __str__ must not stop the report
        raw = f"<str() of {_own_name(text)} failed: {_own_name(error)}>"
    if len(raw) <= 2 * limit:
        cleaned, unseen = _UNCLEAN.sub(_replacement, raw), 0
    else:  # what cannot be shown is not even looked at: it may be a gigabyte
        kept = raw[:limit] + raw[len(raw) - limit :]
        cleaned, unseen = _UNCLEAN.sub(_replacement, kept), len(raw) - len(kept)
    if not unseen and len(cleaned) <= limit:
        return cleaned
    return _without_middle(cleaned, unseen, limit)


def one_line(text: object, limit: int = _LABEL_CHARACTERS_MAX) -> str:
    """Returns *text* cleaned, on one line."""
    return clean_text(text, limit).replace("\n", " ")


def _raw_text(text: object) -> str:
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    # a str subclass may override its methods; str.__str__ copies it to a plain str
    return str.__str__(text if isinstance(text, str) else str(text))


def _replacement(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\x00":
        return "\u2400"
    return f"\\x{ord(character):02x}" if character < "\u0100" else "\ufffd"


def _without_middle(cleaned: str, unseen: int, limit: int) -> str:
    total = len(cleaned) + unseen
    room = limit - len(f"[… {total} characters left out …]")
    if room < 2:
        return cleaned[: max(limit, 0)]
    head, tail = room - room // 2, room // 2
    mark = f"[… {total - head - tail} characters left out …]"
    return cleaned[:head] + mark + cleaned[len(cleaned) - tail :]


def _own_name(value: object) -> str:
    return one_line(_safely(partial(getattr, type(value), "__qualname__"), "object"))


# --- from an exception ---------------------------------------------------------------------------


def capture(exception: BaseException, *, skip_frames: int = 0) -> ExceptionRecord:
    """Builds the record of *exception*, its chain and its members. Does not raise.

    Args:
        exception: it need not be well-behaved; each piece that cannot be read is replaced.
        skip_frames: how many of its outermost frames are the caller's own machinery.
    """

    def look(source: object) -> tuple[ExceptionRecord, list[tuple[_Place, object]]]:
        seen = cast("BaseException", source)
        return _look_at_exception(seen, skip_frames if seen is exception else 0)

    try:
        return _walk(exception, look, _LIMITS)
    except BaseException:  # noqa: BLE001 - no stack or memory left: a poor record beats none
        return {"type": "<unreportable>", "module": "", "message": "error while reporting error"}


def _walk(root: object, look: _Look, limits: RecordLimits) -> ExceptionRecord:
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
            is_known, is_member = id(step.source) in seen, step.place == "exceptions"
            is_too_far = step.links > _LINKS_MAX or step.depth > _GROUP_DEPTH_MAX
            is_full = len(seen) >= limits.exceptions or (is_member and members >= _MEMBERS_MAX)
            if is_known or is_too_far or is_full:
                if is_member or not is_known:
                    step.parent["left_out"] = step.parent.get("left_out", 0) + 1
                continue
            members += is_member
        seen[id(step.source)] = step.source
        record, linked = look(step.source)
        _attach(record, step, top)
        for place, source in reversed(linked):
            is_member = place == "exceptions"
            links, depth = step.links + (not is_member), step.depth + is_member
            pending.append(_Pending(source, place, record, links, depth))
    return top[0]


def _attach(record: ExceptionRecord, step: _Pending, top: list[ExceptionRecord]) -> None:
    if step.parent is None:
        top.append(record)
    elif step.place == "exceptions":
        step.parent.setdefault("exceptions", []).append(record)
    else:
        step.parent[step.place] = record


def _look_at_exception(
    exception: BaseException, skip_frames: int
) -> tuple[ExceptionRecord, list[tuple[_Place, object]]]:
    record: ExceptionRecord = {
        "type": _own_name(exception),
        "module": one_line(_safely(partial(getattr, type(exception), "__module__"), "<unknown>")),
        "message": clean_text(exception, MESSAGE_CHARACTERS_MAX),
    }
    if notes := _safely(partial(_notes, exception), ["<the notes cannot be read>"]):
        record["notes"] = notes
    frames, omitted = _safely(partial(_frames, exception, skip_frames), ([], 0))
    if frames:
        record["frames"] = frames
    if omitted:
        record["omitted"] = omitted
    if _safely(lambda: bool(exception.__suppress_context__), otherwise=False):
        record["suppress_context"] = True
    linked: list[tuple[_Place, object]] = []
    for place in ("cause", "context"):
        other = _safely(partial(getattr, exception, f"__{place}__"), None)
        if _is_exception(other):
            linked.append((place, other))
    if issubclass(type(exception), BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", exception)
        _safely(partial(_add_members, group, record, linked), None)
    return record, linked


def _add_members(
    group: BaseExceptionGroup[BaseException],
    record: ExceptionRecord,
    linked: list[tuple[_Place, object]],
) -> None:
    record["group_message"] = clean_text(group.message, MESSAGE_CHARACTERS_MAX)
    members = group.exceptions
    first = islice(members, _MEMBERS_MAX)
    linked.extend(("exceptions", member) for member in first if _is_exception(member))
    if (beyond := len(members) - _MEMBERS_MAX) > 0:
        record["left_out"] = beyond


def _notes(exception: BaseException) -> list[str]:
    notes: object = getattr(exception, "__notes__", None)
    if notes is None:
        return []
    if not isinstance(notes, list):
        return [clean_text(notes, MESSAGE_CHARACTERS_MAX // 4)]
    # list's own method: a subclass may iterate for ever
    first = list[object].__getitem__(cast("list[object]", notes), slice(_NOTES_MAX))
    return [clean_text(note, MESSAGE_CHARACTERS_MAX // 4) for note in first]


def _frames(exception: BaseException, skip: int) -> tuple[list[FrameRecord], int]:
    """Gives the first 20 and the last 80 frames, and how many lie between."""
    head_size = _LIMITS.frames // _HEAD_SHARE
    head: list[TracebackType] = []
    tail: deque[TracebackType] = deque(maxlen=_LIMITS.frames - head_size)
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
    return [_safely(partial(_frame, entry), blank) for entry in kept], max(count - len(kept), 0)


def _frame(entry: TracebackType) -> FrameRecord:
    frame, code = entry.tb_frame, entry.tb_frame.f_code
    line = entry.tb_lineno or 0
    source = partial(linecache.getline, code.co_filename, line, frame.f_globals)
    return {
        "file": one_line(code.co_filename),
        "line": line,
        "function": one_line(code.co_name),
        "module": one_line(
            _safely(lambda: dict[str, object].get(frame.f_globals, "__name__", ""), "")
        ),
        "text": one_line(_safely(source, "").strip()),
    }


def _is_exception(value: object) -> bool:
    return issubclass(type(value), BaseException)  # isinstance would ask the value's __class__


def _safely(read: Callable[[], T], otherwise: T) -> T:
    try:
        return read()
    except BaseException:  # noqa: BLE001 - user code that fails here must not stop the report
        return otherwise


# --- from a record of unknown origin -------------------------------------------------------------


def check_record(record: object, limits: RecordLimits = _LIMITS) -> ExceptionRecord:
    """Returns a copy of *record* with the right types, clean texts, and within *limits*.

    It takes anything: what is missing or of another type is replaced, unknown keys are dropped.
    """
    return _walk(record, partial(_look_at_record, limits=limits), limits)


def _look_at_record(
    source: object, *, limits: RecordLimits
) -> tuple[ExceptionRecord, list[tuple[_Place, object]]]:
    given = _mapping(source)
    record: ExceptionRecord = {
        "type": one_line(given.get("type", "<unknown>")),
        "module": one_line(given.get("module", "")),
        "message": clean_text(given.get("message", ""), limits.characters),
    }
    if "group_message" in given:
        record["group_message"] = clean_text(given["group_message"], limits.characters)
    if notes := _listed(given.get("notes"))[:_NOTES_MAX]:
        record["notes"] = [clean_text(note, limits.characters // 4) for note in notes]
    _add_frames(record, given, limits.frames)
    if given.get("suppress_context") is True:
        record["suppress_context"] = True
    if left_out := _count(given.get("left_out")):
        record["left_out"] = left_out
    members = _listed(given.get("exceptions"))
    linked: list[tuple[_Place, object]] = [
        ("cause", given.get("cause")),
        ("context", given.get("context")),
        *(("exceptions", member) for member in members),
    ]
    return record, [(place, found) for place, found in linked if isinstance(found, dict)]


def _add_frames(record: ExceptionRecord, given: Mapping[str, object], most: int) -> None:
    frames, omitted = _listed(given.get("frames")), _count(given.get("omitted"))
    if len(frames) > most:
        head = most // _HEAD_SHARE
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


# --- to text -------------------------------------------------------------------------------------


def type_name(record: Mapping[str, object]) -> str:
    """Returns the class as ``module.Class``, or only ``Class`` for a built-in one."""
    module, name = record.get("module", ""), one_line(record.get("type", "<unknown>"))
    return name if module in ("", "builtins") else f"{one_line(module)}.{name}"


def format_exception(record: Mapping[str, object]) -> str:
    """Returns what Python would have printed in the worker, at most 32 Ki characters of it.

    Made from the record alone: no file is read. The carets under a source line and the extra lines
    of a `SyntaxError` are not reproduced.
    """
    lines = _chain_lines(check_record(record), 0)
    return clean_text("".join(f"{line}\n" for line in lines), TRACE_CHARACTERS_MAX)


def _chain(record: ExceptionRecord) -> list[tuple[tuple[str, ...], ExceptionRecord]]:
    """Gives the exceptions in the order they are printed, each with the lines that go before it."""
    links: list[tuple[tuple[str, ...], ExceptionRecord]] = []
    current: ExceptionRecord | None = record
    while current is not None:
        if "cause" in current:
            between, earlier = _CAUSE_LINES, current["cause"]
        elif "context" in current and not current.get("suppress_context"):
            between, earlier = _CONTEXT_LINES, current["context"]
        else:
            between, earlier = (), None
        links.append((between, current))
        current = earlier
    return links[::-1]


def _chain_lines(record: ExceptionRecord, depth: int) -> Iterator[str]:
    margin = _margin(depth)
    for between, link in _chain(record):
        yield from (margin + line for line in between)
        if link.get("exceptions"):
            yield from _group_lines(link, depth)
        else:
            heading = ["Traceback (most recent call last):"] if link.get("frames") else []
            yield from (margin + line for line in [*heading, *_body_lines(link)])


def _group_lines(group: ExceptionRecord, depth: int) -> Iterator[str]:
    """Recurses once for each group within a group, which `check_record` has limited."""
    inner = max(depth, 1)
    margin, indent = _margin(inner), "  " * inner
    if group.get("frames"):
        corner = margin if depth else margin.replace("|", "+")
        yield corner + "Exception Group Traceback (most recent call last):"
    yield from (margin + line for line in _body_lines(group))
    members = group.get("exceptions", [])
    for number, member in enumerate(members, 1):
        yield f"{indent}{'+-' if number == 1 else '  '}+---------------- {number} ----------------"
        yield from _chain_lines(member, inner + 1)
    if not any(link.get("exceptions") for _, link in _chain(members[-1])):
        yield f"{indent}  +------------------------------------"


def _margin(depth: int) -> str:
    return "  " * depth + "| " if depth else ""


def _body_lines(record: ExceptionRecord) -> Iterator[str]:
    yield from _frame_lines(record)
    name, message = type_name(record), record.get("message", "")
    yield from (f"{name}: {message}" if message else name).split("\n")
    for note in _all_notes(record):
        yield from note.split("\n")


def _all_notes(record: ExceptionRecord) -> list[str]:
    left_out = record.get("left_out", 0)
    mark = [f"[… {left_out} more linked or grouped exception(s) left out …]"] if left_out else []
    return [*record.get("notes", []), *mark]


def _frame_lines(record: ExceptionRecord) -> Iterator[str]:
    frames, omitted = record.get("frames", []), record.get("omitted", 0)
    gap = len(frames) // _HEAD_SHARE
    previous: tuple[str, int, str] | None = None
    repeats = 0
    for index, frame in enumerate(frames):
        is_gap = bool(omitted) and index == gap
        place = (frame["file"], frame["line"], frame["function"])
        if place != previous or is_gap:
            yield from _repeat_lines(repeats)
            previous, repeats = place, 0
        if is_gap:
            yield f"  [… {omitted} frames left out …]"
        repeats += 1
        if repeats <= _REPEATS_SHOWN:
            yield f'  File "{frame["file"]}", line {frame["line"]}, in {frame["function"]}'
            if frame["text"]:
                yield f"    {frame['text']}"
    yield from _repeat_lines(repeats)


def _repeat_lines(repeats: int) -> Iterator[str]:
    if (more := repeats - _REPEATS_SHOWN) > 0:
        yield f"  [Previous line repeated {more} more time{'s' if more > 1 else ''}]"


# --- to an exception -----------------------------------------------------------------------------


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
    for note in _all_notes(record):
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
        places.insert(len(frames) // _HEAD_SHARE, _tblib_place(f"<{omitted} frames left out>", "…"))
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
