"""What a running attempt may ask, and what it may note: the side of `Job` that is not the row's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from synk.errors import InvalidValue
from synk.plain import json_text

if TYPE_CHECKING:
    import datetime as dt

NOTE_CHARACTERS_MAX: Final = 200
CHECKPOINT_BYTES_MAX: Final = 64 * 1024
"""The largest checkpoint as JSON: larger state belongs into a file, whose name is checkpointed."""


class Attempt:
    """One attempt, while it runs.

    This class serves jobs that are made by hand, in tests of handlers: it only keeps what it is
    told. In a worker process its place is taken by one that the supervisor can see into.
    """

    schema: str | None = None
    """Where the job's table is; None: it has none."""
    progress: bytes | None = None
    checkpoint: bytes | None = None
    """What was noted last, as JSON text."""

    @property
    def deadline(self) -> dt.datetime | None:
        """When it is killed at the latest; None: nobody will."""
        return None

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel it."""
        return False

    def note_progress(self, text: bytes) -> None:
        """Notes how far it is."""
        self.progress = text

    def note_checkpoint(self, text: bytes) -> None:
        """Notes what the next attempt is to have."""
        self.checkpoint = text


def progress_text(done: float, total: float | None, note: str) -> bytes:
    """Returns the JSON text of a progress.

    Raises:
        InvalidValue: a number is none or not finite, or *note* is no string.
    """
    _check_number("done", done)
    if total is not None:
        _check_number("total", total)
    if not isinstance(note, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidValue("note", note, "must be a string")
    note = note[:NOTE_CHARACTERS_MAX].replace("\x00", "\u2400").encode(errors="replace").decode()
    return msgspec.json.encode({"done": done, "total": total, "note": note})


def checkpoint_text(value: object, field: str = "checkpoint") -> bytes:
    """Returns the JSON text of a checkpoint, or of another *field* of its size.

    Raises:
        InvalidValue: it is not JSON, holds a NUL character, or is larger than 64 KiB.
    """
    try:
        text = json_text(value)
    except ValueError as error:
        raise InvalidValue(field, value, str(error)) from None
    encoded = text.encode()
    if len(encoded) > CHECKPOINT_BYTES_MAX:
        raise InvalidValue(
            field, value, f"{len(encoded)} bytes of JSON, at most {CHECKPOINT_BYTES_MAX}"
        )
    return encoded


def _check_number(field: str, value: object) -> None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53:
        return
    # NaN comes here too: it is not below anything.
    raise InvalidValue(field, value, "must be a finite number below 2^53")
