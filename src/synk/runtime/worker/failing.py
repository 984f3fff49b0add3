"""What a worker says of an attempt that failed, or whose handler chose what becomes of its job."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, cast

from synk import failure
from synk.choices import Cancel, RetryAt, Snooze, checked_delay, checked_time
from synk.core.messages import Reply
from synk.errors import InvalidValue, SoftTimeout
from synk.job import Job
from synk.remote_traceback.text import clean_text
from synk.runtime.worker import handler_modules, own_frames
from synk.runtime.worker.result import NotStored

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from synk.claim import ClaimedJob
    from synk.core.messages import Measure
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
        error = _sound(error)
        if issubclass(type(error), Snooze) and not cancelled:
            return self._snoozing(cast("Snooze", error), claimed)
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
        gave_up = issubclass(type(error), Cancel)
        is_over = cancelled or is_final or gave_up
        return Reply(
            error=record.to_json(),
            retry_at=None if is_over else _retry_at(error, handler, job),
            cancelled=cancelled,
            is_final=is_final,
            gave_up=gave_up,
        )

    def _snoozing(self, choice: Snooze, claimed: ClaimedJob) -> Reply:
        times = Job(claimed, None, self._setup.client_id).snoozes + 1
        return Reply(snooze_s=choice.delay.total_seconds(), snoozes=times)

    def _add_hint(self, error: BaseException) -> None:
        """Says in the record which variable `worker_env` keeps from the job that misses it."""
        if self._setup.withheld:
            # An exception can be anything, and its notes too.
            with contextlib.suppress(Exception):
                hint = handler_modules.hint_of_key(error, self._setup.withheld)
                if hint is not None:
                    BaseException.add_note(error, hint)


def _sound(error: BaseException) -> BaseException:
    """Returns *error*, or what is wrong with it where it is a choice without a proper value.

    Those are refused when they are made, but a subclass may have left that out.
    """
    try:
        if issubclass(type(error), Snooze):
            checked_delay(cast("Snooze", error).delay)
        elif issubclass(type(error), RetryAt):
            checked_time(cast("RetryAt", error).when)
    except BaseException as problem:  # noqa: BLE001 - its attributes can be anything
        return problem
    return error


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
    if issubclass(type(error), Cancel):
        return error, failure.Cause.CANCELLED, False
    # By `Job.complete_tx`.
    is_final = type(error) is InvalidValue and error.field == "result"
    return error, failure.Cause.EXCEPTION, is_final


def _retry_at(error: BaseException, handler: Handler, job: Job[Any] | None) -> dt.datetime | None:
    """Returns when to try again, as the handler or its worker wants it; None: the default."""
    if issubclass(type(error), RetryAt):
        return cast("RetryAt", error).when
    if job is None or handler.next_retry is None:
        return None
    return _asked(handler.next_retry, job, error)


def _asked(
    next_retry: Callable[[Job[Any], BaseException], object], job: Job[Any], error: BaseException
) -> dt.datetime | None:
    """Returns what `next_retry` says, or None for the default if it cannot say it."""
    try:
        when = copy_context().run(next_retry, job, error)
        if when is None:
            return None
        if isinstance(when, dt.datetime) and when.utcoffset() is not None:
            return when
        problem = f"returned {clean_text(when, 200)}, not an aware datetime"
    except BaseException as raised:  # noqa: BLE001 - the job's own failure must still be reported
        problem = f"raised {clean_text(raised, 200)}"
    print(f"synk: next_retry of job {job.id} {problem}; using the default", file=sys.stderr)  # noqa: T201
    return None
