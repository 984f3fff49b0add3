"""What a worker says of an attempt that failed."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from synk import failure
from synk.core.messages import Reply
from synk.errors import InvalidValue, SoftTimeout
from synk.remote_traceback.text import clean_text
from synk.runtime.worker import handler_modules, own_frames
from synk.runtime.worker.result import NotStored

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from synk.claim import ClaimedJob
    from synk.core.messages import Measure
    from synk.job import Job
    from synk.registry import Handler
    from synk.runtime.ipc.setup import Setup


class NotDecoded(Exception):  # noqa: N818 - says what happened, and never leaves a worker process
    """The arguments do not fit; the cause says why."""


class Failures:
    """Makes the reply for one failure after the other.

    Args:
        setup: what the worker was told.
        own_files: the files whose frames are ours, not the handler's.
    """

    def __init__(self, setup: Setup, own_files: Container[str]) -> None:
        self._setup = setup
        self._own_files = own_files
        self._pid = os.getpid()

    def reply(
        self,
        error: BaseException,
        *,
        claimed: ClaimedJob,
        handler: Handler,
        job: Job[Any] | None,
        measure: Measure,
        cancelled: bool,
    ) -> Reply:
        """Returns what there is to say of *error*.

        Args:
            error: what the handler raised, or the decoding of its arguments.
            claimed: the job.
            handler: what it was given to.
            job: the same as the handler got it; None: its arguments were not decoded.
            measure: what it took.
            cancelled: whether it was asked to end.
        """
        error, cause, is_final = _understood(error, cancelled=cancelled)
        self._add_hint(error)
        record = failure.from_exception(
            error,
            attempt=claimed.attempt,
            cause=cause,
            skip_frames=own_frames.count(error, self._own_files),
            duration_s=measure[0] / 1e6,
            cpu_s=measure[1] / 1e6,
            system_s=measure[2] / 1e6,
            peak_rss_bytes=measure[3] or None,
            pid=self._pid,
            host=self._setup.host,
            supervisor=self._setup.client_id,
        )
        asks = job is not None and handler.names_retry and not (cancelled or is_final)
        retry_at = _asked(handler.worker.next_retry, job) if asks and job else None
        return Reply(
            error=record.to_json(), retry_at=retry_at, cancelled=cancelled, is_final=is_final
        )

    def _add_hint(self, error: BaseException) -> None:
        """Says in the record which variable `worker_env` keeps from the job that misses it."""
        if self._setup.withheld:
            # An exception can be anything, and its notes too.
            with contextlib.suppress(Exception):
                hint = handler_modules.hint_of_key(error, self._setup.withheld)
                if hint is not None:
                    BaseException.add_note(error, hint)


def _understood(
    error: BaseException, *, cancelled: bool
) -> tuple[BaseException, failure.Cause, bool]:
    """Returns what the record is to be of, its cause, and whether another try would repeat it."""
    # By its type: isinstance() may ask the exception itself, which can answer with another one.
    if issubclass(type(error), NotDecoded) and error.__cause__ is not None:
        return error.__cause__, failure.Cause.DECODE, False
    if cancelled:
        return error, failure.Cause.CANCELLED, False
    if type(error) is NotStored and error.__cause__ is not None:
        return error.__cause__, failure.Cause.EXCEPTION, True
    if issubclass(type(error), SoftTimeout):
        return error, failure.Cause.TIMEOUT, False
    # By `Job.complete_tx`.
    is_final = type(error) is InvalidValue and error.field == "result"
    return error, failure.Cause.EXCEPTION, is_final


def _asked(next_retry: Callable[[Job[Any]], object], job: Job[Any]) -> dt.datetime | None:
    """Returns what `next_retry` says, or None for the default if it cannot say it."""
    try:
        when = copy_context().run(next_retry, job)
        if when is None:
            return None
        if isinstance(when, dt.datetime) and when.utcoffset() is not None:
            return when
        problem = f"returned {clean_text(when, 200)}, not an aware datetime"
    except BaseException as error:  # noqa: BLE001 - the job's own failure must still be reported
        problem = f"raised {clean_text(error, 200)}"
    print(f"synk: next_retry of job {job.id} {problem}; using the default", file=sys.stderr)  # noqa: T201
    return None
