"""How long a question where a job is waits for the answer of the job's supervisor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from synk.config import seconds_of
from synk.errors import StorageUnavailable

if TYPE_CHECKING:
    import datetime as dt

_LOOK_S: Final = 0.05


class StackWait:
    """The wait of one question, from now on.

    Raises:
        ConfigurationError: *timeout* is no timedelta, or below zero.
    """

    def __init__(self, job_id: int, timeout: dt.timedelta) -> None:
        self._job_id = job_id
        self._timeout = timeout
        self._until = time.monotonic() + seconds_of("timeout", timeout)

    def pause_s(self) -> float:
        """Returns the seconds to pause before the next look for the answer.

        Raises:
            StorageUnavailable: it is too late for an answer.
        """
        if time.monotonic() > self._until:
            raise StorageUnavailable(
                f"the supervisor of job {self._job_id} did not answer within {self._timeout}; see "
                "whether it runs with `synk top`"
            )
        return _LOOK_S
