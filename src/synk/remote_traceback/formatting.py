"""From a record to the text that Python would have printed: by Python's own formatting of it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final

from synk.remote_traceback.checking import check_record
from synk.remote_traceback.record import HEAD_SHARE, MEMBERS_MAX, all_notes, type_name
from synk.remote_traceback.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from synk.remote_traceback.record import ExceptionRecord

TRACE_CHARACTERS_MAX: Final = 32 * 1024


def format_exception(record: Mapping[str, object]) -> str:
    """Returns what Python would have printed in the worker, at most 32 Ki characters of it.

    Made from the record alone: no file is read. The carets under a source line and the extra lines
    of a `SyntaxError` are not reproduced.
    """
    return clean_text("".join(_Recorded(check_record(record)).format()), TRACE_CHARACTERS_MAX)


class _Recorded(traceback.TracebackException):
    """An exception of which there is the record only.

    Recurses once for each link and group, which `check_record` has limited to 15 on a path.
    """

    def __init__(self, record: ExceptionRecord) -> None:
        super().__init__(Exception, Exception(), None, max_group_width=MEMBERS_MAX)
        self._record = record
        self.stack = _frames(record)
        self.__suppress_context__ = record.get("suppress_context", False)
        if "cause" in record:
            self.__cause__ = _Recorded(record["cause"])
        if "context" in record:
            self.__context__ = _Recorded(record["context"])
        if members := record.get("exceptions"):
            self.exceptions = [_Recorded(member) for member in members]

    def format_exception_only(self, **_options: object) -> Generator[str, None, None]:
        name, message = type_name(self._record), self._record.get("message", "")
        yield f"{name}: {message}\n" if message else f"{name}\n"
        yield from (f"{note}\n" for note in all_notes(self._record))


class _Frames(traceback.StackSummary):
    """What has no line number is a mark, to be shown as it is."""

    def format_frame_summary(self, frame_summary: traceback.FrameSummary, **options: object) -> str:
        if frame_summary.lineno is None:
            return frame_summary.name
        return super().format_frame_summary(frame_summary, **options)


def _frames(record: ExceptionRecord) -> traceback.StackSummary:
    frames = _Frames(
        # With the line, or Python would look for it on this machine.
        traceback.FrameSummary(frame["file"], frame["line"], frame["function"], line=frame["text"])
        for frame in record.get("frames", [])
    )
    omitted = record.get("omitted", 0)
    if frames and omitted:
        mark = f"  [… {omitted} frames left out …]\n"
        frames.insert(
            len(frames) // HEAD_SHARE, traceback.FrameSummary("", None, mark, lookup_line=False)
        )
    return frames
