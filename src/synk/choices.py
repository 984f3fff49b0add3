"""What a handler may decide about its job, in place of a result: raised or returned, at its choice.

    raise synk.Snooze(timedelta(minutes=5))     not now: it does not count as a try
    raise synk.RetryAt(tomorrow)                it failed: the next try at that time
    raise synk.Cancel("no such customer")       never: the job is over

They are no errors, and no `Exception`: a handler's own ``except Exception`` does not swallow them,
as it does not swallow SystemExit; what is to be tidied up is (``finally``, ``with``), and a
transaction is rolled back. Where code between does swallow everything, return it.

They are the handler's own: raised in a process that it has started, they end that process.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

from synk.errors import InvalidValue

LONGEST_DELAY: Final = dt.timedelta(days=3650)
"""Ten years: what is to wait for longer is a mistake, and could not be stored some time."""


class Choice(BaseException):
    """The base of what a handler may decide."""


class Snooze(Choice):
    """The job runs again after a while. This attempt is not charged, and leaves no error.

    Checkpoint, output and progress are kept. The attempts are numbered on, and neither the number
    of tries nor the back-off after a failure knows of those that snoozed; `Job.snoozes` counts
    them. A job that was cancelled meanwhile is cancelled.

    Args:
        delay: how long from now on, from zero to 10 years. After zero it may run at once, but
            behind all others of its priority.

    Raises:
        InvalidValue: *delay* is none.
    """

    def __init__(self, delay: dt.timedelta) -> None:
        self.delay = checked_delay(delay)
        super().__init__(delay)

    def __str__(self) -> str:
        return f"again in {self.delay}"


class RetryAt(Choice):
    """The attempt has failed, and the next one is at a time. It is charged, as any that fails.

    It is recorded as an error, with what it was raised from (``raise RetryAt(when) from error``).
    Where no try is left the job has failed.

    Args:
        when: a timezone-aware time, at most 10 years from now; one that is past: at once.

    Raises:
        InvalidValue: *when* is none.
    """

    def __init__(self, when: dt.datetime) -> None:
        self.when = checked_time(when)
        super().__init__(when)

    def __str__(self) -> str:
        return f"again at {self.when.isoformat(sep=' ')}"


class Cancel(Choice):
    """The job is over: it is cancelled, with the reason `CancelReason.HANDLER`.

    The text is kept in its errors. What depends on it is cancelled, too.

    Args:
        reason: why, for those who look at the job.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def checked_delay(delay: object) -> dt.timedelta:
    """Returns *delay* if a job can snooze for it.

    Raises:
        InvalidValue: it is no timedelta, below zero, or over 10 years.
    """
    if not isinstance(delay, dt.timedelta):
        raise InvalidValue("delay", delay, "must be a timedelta")
    if not dt.timedelta(0) <= delay <= LONGEST_DELAY:
        raise InvalidValue("delay", delay, "must be from zero to 10 years")
    return delay


def checked_time(when: object) -> dt.datetime:
    """Returns *when* if a job can be tried again then.

    Raises:
        InvalidValue: it is no datetime, a naive one, or over 10 years from now.
    """
    if not isinstance(when, dt.datetime):
        raise InvalidValue("when", when, "must be a datetime")
    if when.utcoffset() is None:
        problem = "is naive; give it a timezone, as in datetime.now(timezone.utc)"
        raise InvalidValue("when", when, problem)
    if when - dt.datetime.now(dt.UTC) > LONGEST_DELAY:
        raise InvalidValue("when", when, "must be at most 10 years from now")
    return when
