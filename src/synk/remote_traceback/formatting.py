"""From a record to the text that Python would have printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk.remote_traceback.checking import check_record
from synk.remote_traceback.record import HEAD_SHARE, all_notes, type_name
from synk.remote_traceback.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from synk.remote_traceback.record import ExceptionRecord

TRACE_CHARACTERS_MAX: Final = 32 * 1024
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
    for note in all_notes(record):
        yield from note.split("\n")


def _frame_lines(record: ExceptionRecord) -> Iterator[str]:
    frames, omitted = record.get("frames", []), record.get("omitted", 0)
    gap = len(frames) // HEAD_SHARE
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
