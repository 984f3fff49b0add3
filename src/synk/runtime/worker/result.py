"""What a handler returns, as text for its row; or why it cannot be stored."""

from __future__ import annotations

from typing import Final

from synk.plain import json_text

RESULT_BYTES_MAX: Final = 64 * 1024
"""The largest result: a row is no place for files."""

_NO_REPEAT: Final = "The work was done, and the job is not tried again"


class NotStored(Exception):  # noqa: N818 - says what happened, and never leaves a worker process
    """The work is done, and its result cannot be stored; the cause says why."""


def text_of_result(result: object) -> str:
    """Returns a handler's result as JSON text.

    Raises:
        NotStored: it is not JSON, or too large: the job fails, and says so.
    """
    try:
        text = json_text(result)
    except ValueError as error:
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
