"""Settings: frozen records, valid by construction; fields with meaning, unit and default."""

from __future__ import annotations

import datetime as dt
import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from synk.errors import ConfigurationError
from synk.row import JobState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

StartMethod: TypeAlias = Literal["forkserver", "spawn"]

LONGEST_TIMEOUT: Final = dt.timedelta(days=30)
"""Every attempt has an end."""

_LONGEST_FETCH: Final = dt.timedelta(hours=1)
_DAY: Final = dt.timedelta(days=1)

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """One queue on one supervisor.

    Raises:
        ConfigurationError: a value out of its range, named with its field.
    """

    max_workers: int = 100
    """How many jobs of this queue may run at once on this supervisor. What really runs at once is
    at most the number of worker processes, which all queues of the supervisor share."""
    time_fetch: dt.timedelta = dt.timedelta(milliseconds=200)
    """How often the queue is looked at when nothing announced a job. Up to a fifth sooner, so that
    many supervisors do not look in one instant. Longest 1 hour."""
    job_timeout: dt.timedelta = dt.timedelta(minutes=1)
    """Wall time of an attempt before its process is killed, where the worker names none. It is
    always finite: at most 30 days."""
    max_rss: int | None = None
    """Bytes of memory that an attempt may have of its own, with all the processes that it starts,
    where the worker names no limit; above it the attempt is killed, with cause ``memory``. None: no
    limit. It is looked at five times a second, less often where it is many gigabytes.

    Counted is what is private to the attempt, in RAM and in swap; what its processes share among
    each other, by a fork or as shared memory without a name (``mmap(-1)``, ``RawArray``), once. Not
    counted are mapped files, also those in /dev/shm (``SharedMemory``), and what workers have from
    the imports before the fork, until they write to it. `peak_rss_bytes` in the account of an
    attempt is something else: all that was resident in its worker, of whoever's memory."""
    nice: int = 0
    """Added to the nice value of a worker process while it runs a job of this queue: 0 to 19."""
    cpus: Collection[int] | None = None
    """The CPUs that jobs of this queue run on; None: all that the supervisor may use."""

    def __post_init__(self) -> None:
        if self.max_rss is not None:
            check_bytes("max_rss", self.max_rss)
        if not isinstance(self.nice, int) or not 0 <= self.nice <= 19:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("nice", self.nice, "must be from 0 to 19")
        if self.cpus is not None:
            object.__setattr__(self, "cpus", _checked_cpus(self.cpus))
        if not isinstance(self.max_workers, int) or not 1 <= self.max_workers <= 65535:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("max_workers", self.max_workers, "must be from 1 to 65535")
        check_duration("time_fetch", self.time_fetch, most=_LONGEST_FETCH)
        check_duration("job_timeout", self.job_timeout, most=LONGEST_TIMEOUT)


def _default_retention() -> Mapping[JobState, dt.timedelta]:
    return {JobState.COMPLETED: 30 * _DAY, JobState.CANCELLED: 90 * _DAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanerConfig:
    """How long finished jobs are kept. A final state that is not named is kept for ever.

    Raises:
        ConfigurationError: a value out of its range, or a state that is not final.
    """

    clean_interval: dt.timedelta = _DAY
    """How often the cleaner runs; 24 hours by default."""
    by_status: Mapping[JobState, dt.timedelta] = field(default_factory=_default_retention)
    """State -> time since it ended, after which a job is removed. By default 30 days for completed
    and 90 days for cancelled jobs."""

    def __post_init__(self) -> None:
        check_duration("clean_interval", self.clean_interval)
        checked: dict[JobState, dt.timedelta] = {}
        for state, retention in self.by_status.items():
            if state not in (JobState.COMPLETED, JobState.CANCELLED):
                raise ConfigurationError(
                    "by_status", state, "only completed and cancelled jobs end"
                )
            if not isinstance(retention, dt.timedelta) or retention < dt.timedelta(0):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"by_status[{state}]", retention, "must be a timedelta")
            checked[JobState(state)] = retention
        object.__setattr__(self, "by_status", types.MappingProxyType(checked))


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The worker processes of one supervisor.

    Raises:
        ConfigurationError: a value out of its range, named with its field.
    """

    processes: int
    """How many worker processes there are."""
    start_method: StartMethod = "forkserver"
    """How they are made. ``spawn`` is slower and shares no memory, for what cannot be forked."""
    drain_timeout_s: float = 25.0
    """Seconds that running jobs get to finish at a shutdown before they are killed. By default 5 s
    less than the 30 s after which Kubernetes kills a pod."""
    preload: tuple[str, ...] = ()
    """Modules imported once, before the workers are forked, besides those of the handlers."""
    on_worker_start: Callable[[], object] | None = None
    """Called in each worker process before its first job."""
    worker_env: tuple[str, ...] | None = None
    """The names of the environment variables that workers get; None: all."""
    max_jobs: int | None = None
    """Jobs that one worker process runs at most, before another takes its place; None: any."""
    max_worker_rss: int | None = None
    """Bytes of its own memory above which a worker is replaced between two jobs; None: never."""
    cancel_grace_s: float = 5.0
    """Seconds that a running job gets to end by itself when it is cancelled."""
    lease_ttl_s: float = 30.0
    """Seconds after the last renewal of a supervisor's lease, after which others take its jobs."""
    no_new_privileges: bool = True
    """Whether programs that jobs start are kept from gaining rights by a setuid bit."""
    rlimits: Mapping[str, int] = field(default_factory=dict[str, int])
    """Limits of each worker process by name, such as ``NOFILE`` or ``AS``; see setrlimit(2)."""

    def __post_init__(self) -> None:
        if not isinstance(self.processes, int) or not 1 <= self.processes <= 1024:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError("processes", self.processes, "must be from 1 to 1024")
        if self.start_method not in ("forkserver", "spawn"):
            raise ConfigurationError("start_method", self.start_method, "'forkserver' or 'spawn'")
        if not 0 <= self.drain_timeout_s <= 86400:
            raise ConfigurationError("drain_timeout", self.drain_timeout_s, "from 0 s to 1 day")
        if not 6 <= self.lease_ttl_s <= 3600:
            raise ConfigurationError("lease_ttl", self.lease_ttl_s, "from 6 s to 1 hour")
        if not 0 <= self.cancel_grace_s <= 3600:
            raise ConfigurationError("cancel_grace", self.cancel_grace_s, "from 0 s to 1 hour")
        for name, value in self.rlimits.items():
            if not isinstance(value, int) or value < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigurationError(f"rlimits[{name!r}]", value, "must be a whole number")
        self._check_life()

    def _check_life(self) -> None:
        """Checks how a worker process begins and how long it serves."""
        if self.max_jobs is not None and (
            not isinstance(self.max_jobs, int) or self.max_jobs < 1  # pyright: ignore[reportUnnecessaryIsInstance]
        ):
            raise ConfigurationError("max_jobs", self.max_jobs, "must be a whole number from 1 on")
        if self.max_worker_rss is not None:
            check_bytes("max_worker_rss", self.max_worker_rss)
        if self.on_worker_start is not None and not callable(self.on_worker_start):
            raise ConfigurationError("on_worker_start", self.on_worker_start, "must be a function")


def _checked_cpus(cpus: object) -> frozenset[int]:
    try:
        checked = frozenset(cast("Collection[int]", cpus))
    except TypeError:
        checked = frozenset[int]()
    if not checked or not all(isinstance(number, int) and number >= 0 for number in checked):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("cpus", cpus, "must be the numbers of CPUs")
    return checked


def check_bytes(field_name: str, value: object) -> int:
    """Returns *value* if it is a number of bytes.

    Raises:
        ConfigurationError: it is not a whole number from one mebibyte on.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not _MIB <= value < 2**63:
        raise ConfigurationError(field_name, value, "must be a number of bytes, from 1 MiB on")
    return value


def check_duration(
    field_name: str, value: object, *, most: dt.timedelta | None = None
) -> dt.timedelta:
    """Returns *value* if it is a timedelta above zero and not above *most*.

    Raises:
        ConfigurationError: it is not.
    """
    if not isinstance(value, dt.timedelta):
        raise ConfigurationError(field_name, value, "must be a timedelta")
    if value <= dt.timedelta(0):
        raise ConfigurationError(field_name, value, "must be above zero")
    if most is not None and value > most:
        raise ConfigurationError(field_name, value, f"must be at most {most}")
    return value


def seconds_of(field: str, duration: object) -> float:
    """Returns a duration in seconds.

    Raises:
        ConfigurationError: it is no timedelta, or below zero.
    """
    if not isinstance(duration, dt.timedelta) or duration < dt.timedelta(0):
        raise ConfigurationError(field, duration, "must be a timedelta, not below zero")
    return duration.total_seconds()
