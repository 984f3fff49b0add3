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

from synk.remote_traceback.capturing import capture
from synk.remote_traceback.checking import check_record
from synk.remote_traceback.formatting import TRACE_CHARACTERS_MAX, format_exception
from synk.remote_traceback.rebuilding import rebuild
from synk.remote_traceback.record import (
    MESSAGE_CHARACTERS_MAX,
    ExceptionRecord,
    FrameRecord,
    RecordLimits,
    type_name,
)
from synk.remote_traceback.text import clean_text, one_line

__all__ = [
    "MESSAGE_CHARACTERS_MAX",
    "TRACE_CHARACTERS_MAX",
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
