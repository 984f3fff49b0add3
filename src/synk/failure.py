"""What a failed attempt leaves behind: one record, plain JSON, that building cannot break.

The worker makes it from an exception (`from_exception`); for a process that was killed, died or
got lost, the supervisor makes it from what it knows. It is stored in the row's ``errors``, at most
64 KiB of it, and read back by `AttemptError.from_dict`, which also takes what the Go original and
others have written there. How an exception becomes data and back is `synk.remote_traceback`.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, TypedDict, cast

from synk.errors import RemoteError
from synk.remote_traceback.capturing import capture
from synk.remote_traceback.checking import check_record
from synk.remote_traceback.formatting import TRACE_CHARACTERS_MAX, format_exception
from synk.remote_traceback.rebuilding import rebuild
from synk.remote_traceback.record import (
    MESSAGE_CHARACTERS_MAX,
    ExceptionRecord,
    RecordLimits,
    type_name,
)
from synk.remote_traceback.text import clean_text, one_line

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

RECORD_BYTES_MAX: Final = 64 * 1024
"""A stored attempt error, as UTF-8."""

OUTPUT_CHARACTERS_MAX: Final = 16 * 1024
_INTEGER_MAX: Final = 2**63 - 1


class Cause(StrEnum):
    """What ended a failed attempt.

    Attributes:
        EXCEPTION: the handler raised.
        TIMEOUT: it ran out of its time and was killed.
        MEMORY: it took more memory than it may have.
        SIGNAL: the process was ended by a signal that synk did not send.
        EXIT: the process ended itself while it had the job.
        CANCELLED: somebody cancelled the job while it ran.
        LOST: its supervisor vanished; what became of the attempt is not known.
        DECODE: its arguments do not fit the worker's type.
    """

    EXCEPTION = "exception"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    SIGNAL = "signal"
    EXIT = "exit"
    CANCELLED = "cancelled"
    LOST = "lost"
    DECODE = "decode"


class Account(TypedDict, total=False):
    """The fields of an `AttemptError` that are about the process.

    Attributes:
        exit_code: see `AttemptError`, as for all others.
        signal: the signal that ended the process, by name.
        duration_s: wall time, in seconds.
        cpu_s: CPU time, user and system, in seconds.
        system_s: the part of it that the kernel took.
        peak_rss_bytes: the largest resident memory, in bytes.
        output: the end of what the job wrote.
        pid: the process.
        host: its machine.
        supervisor: the id of its client.
    """

    exit_code: int | None
    signal: str | None
    duration_s: float | None
    cpu_s: float | None
    system_s: float | None
    peak_rss_bytes: int | None
    output: str
    pid: int | None
    host: str | None
    supervisor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptError:
    """One failed attempt of a job.

    Attributes:
        at: when the failure was stored, by the database's clock; None until then.
        attempt: the number of the attempt, from 1.
        error: one line, as ``ValueError: text``; at most 4096 characters once stored.
        trace: the formatted traceback. For a process that was killed, its Python stack of that
            moment; for one that crashed, from Python 3.14 on, the stack in C as well. At most 32 Ki
            characters once stored.
        cause: what ended it; `Cause.EXCEPTION` by default.
        type: the exception's class as ``module.Class``; built-in ones without the module. None:
            there was no exception.
        exception: the exception as data: frames, chain, notes, members. None if there was none.
        exit_code: what the process exited with, if it did by itself.
        signal: the signal that ended the process, by name: ``SIGSEGV``.
        duration_s: wall time of the attempt, in seconds.
        cpu_s: CPU time of the attempt, user and system, in seconds, with that of the processes that
            it started and waited for.
        system_s: the part of it that the kernel took, in seconds.
        peak_rss_bytes: the largest resident memory of the process, in bytes.
        output: the end of what the job wrote to stdout and stderr; at most 16 Ki characters once
            stored.
        pid: the worker process.
        host: the machine that it ran on.
        supervisor: the id of the client whose worker process ran the attempt.
        truncated: whether parts were left out so that the stored record keeps under 64 KiB.
    """

    at: dt.datetime | None = None
    attempt: int
    error: str
    trace: str = ""
    cause: Cause = Cause.EXCEPTION
    type: str | None = None
    exception: ExceptionRecord | None = None
    exit_code: int | None = None
    signal: str | None = None
    duration_s: float | None = None
    cpu_s: float | None = None
    system_s: float | None = None
    peak_rss_bytes: int | None = None
    output: str = ""
    pid: int | None = None
    host: str | None = None
    supervisor: str | None = None
    truncated: bool = False

    def to_dict(self) -> dict[str, object]:
        """Returns plain JSON values with clean texts; what is None or empty is left out."""
        return _as_dict(self, _SIZES[0])

    def to_json(self) -> str:
        """Returns at most 64 KiB of JSON that PostgreSQL's ``jsonb`` takes. Does not raise.

        If the record is larger, frames, output, trace and texts are cut to smaller and smaller
        sizes until it fits, and ``truncated`` says so.
        """
        try:
            for size in _SIZES:
                record = _as_dict(self, size)
                if size is not _SIZES[0]:
                    record["truncated"] = True
                text = json.dumps(
                    record, ensure_ascii=False, allow_nan=False, separators=(",", ":")
                )
                if len(text.encode()) <= RECORD_BYTES_MAX:
                    return text
        except Exception:  # noqa: BLE001, S110 - the attempt must be stored, if only as failed
            pass
        return json.dumps(
            {
                "attempt": _integer(self.attempt) or 0,
                "error": "error while reporting error",
                "cause": Cause.EXCEPTION,
                "type": "<unreportable>",
                "truncated": True,
            }
        )

    @classmethod
    def from_dict(cls, value: object) -> AttemptError:
        """Returns the attempt error that a row holds. Does not raise, whoever wrote the row.

        Fields that are missing or of another type get their default, unknown ones are ignored, an
        unknown cause is `Cause.EXCEPTION`. A *value* that is no dict becomes the text of `error`.
        """
        if not isinstance(value, dict):
            return cls(attempt=0, error=clean_text(value, MESSAGE_CHARACTERS_MAX))
        given = cast("dict[str, object]", value)
        return cls(**{name: read(given.get(name), _SIZES[0]) for name, read in _FIELDS.items()})

    def as_exception(self) -> BaseException:
        """Returns an exception to raise or show here, with the remote frames as its traceback.

        Built-in classes come as themselves, all others as `RemoteError`; causes, contexts, notes
        and groups are kept. Nothing in the record is imported, unpickled, or read from this
        machine's disk. An attempt that ended without an exception gives a `RemoteError` named
        after its cause, ``synk.timeout`` for instance, with the trace as a note.
        """
        if self.exception is not None:
            return rebuild(self.exception)
        name = self.type or f"synk.{self.cause}"
        exception = RemoteError(name, self.error.removeprefix(f"{name}: "))
        if self.trace:
            exception.add_note(clean_text(self.trace, TRACE_CHARACTERS_MAX))
        return exception


def from_exception(
    exception: BaseException,
    *,
    attempt: int,
    cause: Cause = Cause.EXCEPTION,
    skip_frames: int = 0,
    **account: Unpack[Account],
) -> AttemptError:
    """Describes an attempt that *exception* ended.

    Args:
        exception: what the handler raised; its own methods may fail.
        attempt: the number of the attempt.
        cause: `Cause.EXCEPTION`, or what the exception stands for, such as `Cause.DECODE`.
        skip_frames: how many outermost frames are the worker's own.
        account: what is known about the process.
    """
    record = capture(exception, skip_frames=skip_frames)
    name, message = type_name(record), record.get("message", "")
    return AttemptError(
        attempt=attempt,
        error=one_line(f"{name}: {message}" if message else name, MESSAGE_CHARACTERS_MAX),
        trace=format_exception(record),
        cause=cause,
        type=name,
        exception=record,
        **account,
    )


def with_output(record: str, output: str) -> str:
    """Returns a record, as `AttemptError.to_json` gave it, with the job's output in it."""
    if not output:
        return record
    return replace(AttemptError.from_dict(json.loads(record)), output=output).to_json()


@dataclass(frozen=True, slots=True)
class _Size:
    """How much of each part is stored; exceptions=0 leaves the structured record out."""

    frames: int = 100
    exceptions: int = 64
    message: int = MESSAGE_CHARACTERS_MAX
    output: int = OUTPUT_CHARACTERS_MAX
    trace: int = TRACE_CHARACTERS_MAX


_KI: Final = 1024
_SIZES: Final = (
    _Size(),
    # the middle of deep stacks says least, then the output; the trace, which people read, goes last
    _Size(frames=40),
    _Size(frames=20, output=8 * _KI),
    _Size(frames=10, output=8 * _KI),
    _Size(frames=10, output=4 * _KI, message=_KI, trace=16 * _KI),
    _Size(frames=10, output=4 * _KI, message=_KI, trace=8 * _KI, exceptions=12),
    _Size(frames=10, output=2 * _KI, message=_KI, trace=4 * _KI, exceptions=4),
    _Size(exceptions=0, output=_KI, message=_KI, trace=2 * _KI),
)


_FIELDS: Final[dict[str, Callable[[object, _Size], Any]]] = {
    "attempt": lambda value, _: _integer(value) or 0,
    "error": lambda value, size: _text(value, size.message),
    "cause": lambda value, _: _cause(value),
    "at": lambda value, _: _time(value),
    "trace": lambda value, size: _text(value, size.trace),
    "type": lambda value, _: _label(value),
    "exception": lambda value, size: _record(value, size),  # noqa: PLW0108 - it is defined below
    "exit_code": lambda value, _: _integer(value),
    "signal": lambda value, _: _label(value),
    "duration_s": lambda value, _: _seconds(value),
    "cpu_s": lambda value, _: _seconds(value),
    "system_s": lambda value, _: _seconds(value),
    "peak_rss_bytes": lambda value, _: _integer(value),
    "output": lambda value, size: _text(value, size.output),
    "pid": lambda value, _: _integer(value),
    "host": lambda value, _: _label(value),
    "supervisor": lambda value, _: _label(value),
    "truncated": lambda value, _: value is True,
}
"""What each field may be, of whatever it is given: to be stored, and when it is read back."""


def _as_dict(error: AttemptError, size: _Size) -> dict[str, object]:
    fields = {name: read(getattr(error, name), size) for name, read in _FIELDS.items()}
    fields["cause"] = str(fields["cause"])
    if fields["at"] is not None:
        fields["at"] = fields["at"].isoformat()
    return {
        name: value
        for name, value in fields.items()
        if name in ("attempt", "error") or not (value is None or value is False or value == "")
    }


def _record(value: object, size: _Size) -> ExceptionRecord | None:
    if size.exceptions == 0 or not isinstance(value, dict):
        return None
    limits = RecordLimits(frames=size.frames, exceptions=size.exceptions, characters=size.message)
    return check_record(cast("object", value), limits)


def _text(value: object, limit: int) -> str:
    return "" if value is None else clean_text(value, limit)


def _label(value: object) -> str | None:
    return (one_line(value) or None) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _INTEGER_MAX:
        return int(value)
    return None


def _seconds(value: object) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e15:
        return float(value) if math.isfinite(value) else None
    return None


def _cause(value: object) -> Cause:
    try:
        return Cause(cast("str", value))
    except ValueError:
        return Cause.EXCEPTION


def _time(value: object) -> dt.datetime | None:
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, dt.datetime):
        return None
    return value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)
