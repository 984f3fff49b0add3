"""What time does to jobs that nobody touches: some expire, some have been kept for long enough.

Not part of the contract in `synk.storage.base`: a storage without it refuses `start_before` and
`keep`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from synk.insertion import NewJob
    from synk.row import JobState


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did.

    Attributes:
        looked: at how many jobs it looked; as many as it might: there may be more.
        expired: how many of those were cancelled, since they had not begun in time.
        removed: how many were removed.
    """

    looked: int
    expired: int
    removed: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a batch of the cleaner did.

    Attributes:
        looked: at how many jobs it looked; as many as it might: there may be more.
        removed: how many of those it removed; the others have a retention of their own.
        last: when the last of them ended, from where the next batch goes on; None: there was none.
    """

    looked: int
    removed: int
    last: dt.datetime | None


@runtime_checkable
class Sweeping(Protocol):
    """A storage that knows `InsertOptions.start_before` and `keep`."""

    def sweep(self, limit: int) -> Swept:
        """Looks at up to *limit* jobs whose time has come, in one transaction.

        A job with a `start_before` is claimed by nobody after that time, whenever this is called;
        here it is cancelled, for the reason ``expired``, and what waits for it with it. Once an
        attempt counts, it has begun, and is tried again as others are. A job with a `keep` is
        removed so long after its end, and by no cleaner. Safe to repeat.
        """
        ...

    def clean(
        self,
        state: JobState,
        retention: dt.timedelta,
        *,
        limit: int,
        after: dt.datetime | None = None,
    ) -> Cleaned:
        """Does a batch of `Storage.cleaner`, from a time on, in the order in which jobs ended.

        It looks at up to *limit* jobs that ended in *state* longer than *retention* ago, but not
        before *after* (None: at all). Of a batch that looked at as many as it might, all of which
        ended at *after*, the next has to look at more.
        """
        ...


def check_sweeps(storage: object, jobs: Sequence[NewJob]) -> None:
    """Checks that *storage* keeps what *jobs* say of times.

    Raises:
        ConfigurationError: it is a storage of one's own, which does not.
    """
    if not isinstance(storage, Sweeping) and any(job.options.needs_sweep for job in jobs):
        problem = "knows no start_before and no keep: it has no sweep()"
        raise ConfigurationError("storage", storage, problem)
