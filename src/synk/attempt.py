"""What a running attempt may ask, and what it may note: the side of `Job` that is not the row's."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from synk.errors import InvalidValue, JobCancelled, SoftTimeout
from synk.plain import json_text

if TYPE_CHECKING:
    import datetime as dt

NOTE_CHARACTERS_MAX: Final = 200
CHECKPOINT_BYTES_MAX: Final = 64 * 1024
"""The largest checkpoint as JSON: larger state belongs into a file, whose name is checkpointed."""


_EXACT: Final = 2**53
"""Up to here every reader of JSON has the same whole numbers."""
_LARGEST: Final = 10**300


class Attempt:
    """One attempt, while it runs.

    This class serves jobs that are made by hand, in tests of handlers: it only keeps what it is
    told. In a worker process its place is taken by one that the supervisor can see into.
    """

    is_by_hand: bool = True
    """Whether no supervisor runs it."""
    schema: str | None = None
    """Where the job's table is; None: it has none."""
    progress: bytes | None = None
    checkpoint: bytes | None = None
    """What was noted last, as JSON text."""
    told: set[tuple[str, type]] | None = None
    """Of which fields and types of values it was said that they cannot be noted."""

    @property
    def deadline(self) -> dt.datetime | None:
        """When it is killed at the latest; None: nobody will."""
        return None

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel it."""
        return False

    def refuse(self, error: InvalidValue) -> None:
        """Says in the job's output what could not be noted; once of each field and problem."""
        kind = (error.field, type(error.value))
        # A name of its own: the job after this one begins anew, and a thread may have stayed.
        told = self.told = self.told or set()
        if kind in told:
            return
        told.add(kind)
        # A job may have closed it, or put anything in its place.
        with contextlib.suppress(Exception):
            print(f"synk: not noted: {error}", file=sys.stderr, flush=True)  # noqa: T201

    def note_progress(self, text: bytes) -> None:
        """Notes how far it is."""
        self.progress = text

    def note_checkpoint(self, text: bytes) -> None:
        """Notes what the next attempt is to have."""
        self.checkpoint = text


def progress_text(done: object, total: object, note: object) -> bytes:
    """Returns the JSON text of a progress; a total that is no number is left out.

    Raises:
        InvalidValue: *done* is no number, or not finite.
    """
    return msgspec.json.encode(
        {
            "done": _number("done", done),
            "total": None if total is None else _number("total", total),
            "note": _text(note),
        }
    )


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


def _number(field: str, value: object) -> float:
    """Returns a number as JSON has it, by the rule of `synk.plain`."""
    if type(value) is int and -_EXACT < value < _EXACT:
        return value
    try:
        number = msgspec.json.decode(json_text(value))
        if isinstance(number, str):
            # Numbers of any length travel as text; but only they have become one.
            number = float(value) if hasattr(type(value), "__float__") else None  # pyright: ignore[reportArgumentType]
    except (ValueError, OverflowError):
        number = None
    if isinstance(number, (int, float)) and not isinstance(number, bool):
        if -_EXACT < number < _EXACT:
            return number
        if abs(number) < _LARGEST:
            return float(number)
    raise InvalidValue(field, value, "must be a finite number")


def _text(note: object) -> str:
    if type(note) is not str:
        try:
            note = "" if note is None else str.__str__(str(note))
        except (JobCancelled, SoftTimeout, KeyboardInterrupt):
            raise
        except BaseException:  # noqa: BLE001 - it is only a note
            note = f"a {type(note).__name__}"
    text = note[:NOTE_CHARACTERS_MAX].replace("\x00", "\u2400")
    return text.encode(errors="replace").decode()
