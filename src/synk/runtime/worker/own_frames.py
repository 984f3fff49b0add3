"""Which frames of a traceback are the handler's, and which are ours around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import types
    from collections.abc import Container

_TRACEBACK: Final = BaseException.__dict__["__traceback__"]
"""What an exception holds by it; its own attribute can be anything."""


def traceback_of_handler(
    error: BaseException, own_files: Container[str]
) -> types.TracebackType | None:
    """Returns the part of a traceback that is the handler's, if there is one."""
    trace: types.TracebackType | None = _TRACEBACK.__get__(error)
    while trace is not None and trace.tb_frame.f_code.co_filename in own_files:
        trace = trace.tb_next
    return trace


def count(error: BaseException, own_files: Container[str]) -> int:
    """Returns how many of a traceback's outermost frames are not the handler's."""
    count = 0
    trace: types.TracebackType | None = _TRACEBACK.__get__(error)
    while trace is not None and trace.tb_frame.f_code.co_filename in own_files:
        count += 1
        trace = trace.tb_next
    # An error that is all ours, such as a result that is not JSON, keeps its last frame.
    return count if trace is not None else max(0, count - 1)
