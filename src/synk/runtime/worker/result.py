"""What a handler returns, as text for its row; or why it cannot be stored."""

from __future__ import annotations

from typing import Final, cast

from synk.choices import Cancel, Choice, RetryAt, Snooze
from synk.plain import json_text

RESULT_BYTES_MAX: Final = 64 * 1024
"""The largest result: a row is no place for files."""

_NO_REPEAT: Final = "The work was done, and the job is not tried again"


class NotStored(Exception):  # noqa: N818 - says what happened, and never leaves a worker process
    """The work is done, and its result cannot be stored; the cause says why."""


def text_of_result(result: object) -> str:
    """Returns a handler's result as JSON text.

    Raises:
        Choice: it is one, which counts as if it had been raised.
        TypeError: it is the class of one.
        NotStored: it is not JSON, or too large: the job fails, and says so.
    """
    if issubclass(type(result), Choice):
        # One object may serve many jobs.
        raise BaseException.with_traceback(cast("Choice", result), None)
    try:
        text = json_text(result)
    except ValueError as error:
        if any(result is each for each in (Snooze, RetryAt, Cancel)):
            raise TypeError(f"{result!r} was returned, the class: call it") from None
        raise NotStored from ValueError(
            f"the result {error}: return what JSON can hold. {_NO_REPEAT}"
        )
    size = len(text.encode())
    if size > RESULT_BYTES_MAX:
        raise NotStored from ValueError(
            f"the result is {size} bytes of JSON, at most {RESULT_BYTES_MAX}: keep it elsewhere, "
            f"and return where. {_NO_REPEAT}"
        )
    return text
