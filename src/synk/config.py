"""Settings: frozen records, valid by construction; fields with meaning, unit and default."""

from __future__ import annotations

import datetime as dt
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from synk.errors import ConfigurationError, InvalidJob
from synk.limit import Limit, Limits, check_limit
from synk.row import JobState, check_label

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

StartMethod: TypeAlias = Literal["forkserver", "spawn"]

LONGEST_TIMEOUT: Final = dt.timedelta(days=30)
"""Every attempt has an end."""

_LONGEST_FETCH: Final = dt.timedelta(hours=1)
_DAY: Final = dt.timedelta(days=1)

_MIB: Final = 1024 * 1024

HELD_BYTES: Final = 64 * _MIB
_HELD_MIB_MIN: Final = 16
"""As many small jobs as may be at hand weigh nearly that, and are counted by their number only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueConfig:
    """One queue on one supervisor.

    Attributes:
        max_workers: how many jobs of this queue may run at once on this supervisor, 1 to 65535; 100
            by default. What really runs at once is at most the number of worker processes, which
            all queues of the supervisor share.
        time_fetch: how often the queue is looked at when nothing announced a job, at most 1 hour;
            200 ms by default. Up to a fifth sooner, so that many supervisors do not look in one
            instant.
        job_timeout: wall time of an attempt before its process is killed, where the worker names
            none; 1 minute by default, at most 30 days: every attempt has an end.
        max_rss: bytes of memory that an attempt may have of its own, from 1 MiB on, with all the
            processes that it starts, where the worker names no limit; above it the attempt is
            killed, with cause ``memory``. None, the default: no limit. It is looked at five times a
            second, less often where it is many gigabytes.

            Counted is what is private to the attempt, in RAM and in swap; what its processes share
            among each other, by a fork or as shared memory without a name (``mmap(-1)``,
            ``RawArray``), once. Not counted are mapped files, also those in /dev/shm
            (``SharedMemory``), and what workers have from the imports before the fork, until they
            write to it. `peak_rss_bytes` in the account of an attempt is something else: all that
            was resident in its worker, of whoever's memory.
        nice: added to the nice value of a worker process while it runs a job of this queue: 0, the
            default, to 19.
        cpus: the numbers of the CPUs that jobs of this queue run on; None, the default: all that
            the supervisor may use.
        limit: what the jobs of this queue whose worker gives no limit may take of the fleet
            together; None, the default: anything.

    Raises:
        ConfigurationError: a value out of its range, named with its field.
    """

    max_workers: int = 100
    time_fetch: dt.timedelta = dt.timedelta(milliseconds=200)
    job_timeout: dt.timedelta = dt.timedelta(minutes=1)
    max_rss: int | None = None
    nice: int = 0
    cpus: Collection[int] | None = None
    limit: Limit | None = None

    def __post_init__(self) -> None:
        check_limit("limit", self.limit)
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


def check_queues(
    queues: Mapping[str, QueueConfig], kinds: Collection[str]
) -> dict[str, QueueConfig]:
    """Returns *queues* with their settings, for a client with workers for *kinds*.

    Raises:
        ConfigurationError: no names with settings, or queues without workers.
    """
    if not isinstance(queues, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        problem = 'write queues={"default": synk.QueueConfig()}: names with settings'
        raise ConfigurationError("queues", queues, problem)
    for name, queue in queues.items():
        try:
            check_label("queues", name)
        except InvalidJob as error:
            raise ConfigurationError("queues", name, str(error)) from None
        if not isinstance(queue, QueueConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(f"queues[{name!r}]", queue, "must be a QueueConfig")
    if queues and not kinds:
        raise ConfigurationError("queues", list(queues), "have no worker: give workers=")
    return dict(queues)


def known_limits(by_kind: Mapping[str, Limit], queues: Mapping[str, QueueConfig]) -> Limits:
    """Returns the limits that kinds and *queues* give.

    Raises:
        ConfigurationError: two of one name say different things.
    """
    by_queue = {name: queue.limit for name, queue in queues.items() if queue.limit is not None}
    return Limits(by_kind=by_kind, by_queue=by_queue)


def _default_retention() -> Mapping[JobState, dt.timedelta]:
    return {JobState.COMPLETED: 30 * _DAY, JobState.CANCELLED: 90 * _DAY}


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanerConfig:
    """How long finished jobs are kept. A final state that is not named is kept for ever.

    Attributes:
        clean_interval: how often the cleaner runs; 24 hours by default.
        by_status: state -> time since it ended, after which a job is removed; by default 30 days
            for `JobState.COMPLETED` and 90 days for `JobState.CANCELLED`.

    Raises:
        ConfigurationError: a value out of its range, or a state that is not final.
    """

    clean_interval: dt.timedelta = _DAY
    by_status: Mapping[JobState, dt.timedelta] = field(default_factory=_default_retention)

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


def check_cleaner(cleaner: CleanerConfig | None) -> CleanerConfig | None:
    """Returns *cleaner*.

    Raises:
        ConfigurationError: it is something else.
    """
    if cleaner is not None and not isinstance(cleaner, CleanerConfig):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("cleaner", cleaner, "must be a CleanerConfig")
    return cleaner


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The worker processes of one supervisor.

    Attributes:
        processes: how many worker processes there are, 1 to 1024.
        start_method: how they are made: ``forkserver``, the default, or ``spawn``, which is slower
            and shares no memory, for what cannot be forked.
        drain_timeout_s: seconds that running jobs get to finish at a shutdown before they are
            killed, 0 to 86400. The default of 25 is 5 s less than the 30 s after which Kubernetes
            kills a pod.
        preload: modules imported once, before the workers are forked, besides those of the
            handlers; none by default.
        on_worker_start: called in each worker process before its first job; None, the default:
            nothing is.
        start_timeout_s: seconds that a worker process gets until it is ready for jobs, and the
            handlers' modules to be imported before that, 1 to 86400; 60 by default.
        worker_env: the names of the environment variables that workers get; None, the default: all.
        max_jobs: jobs that one worker process runs at most, from 1 on, before another takes its
            place; None, the default: any.
        max_worker_rss: bytes of its own memory, from 1 MiB on, above which a worker is replaced
            between two jobs; None, the default: never.
        cancel_grace_s: seconds that a running job gets to end by itself when it is cancelled, 0 to
            3600; 5 by default.
        lease_ttl_s: seconds after the last renewal of a supervisor's lease, after which others take
            its jobs, 6 to 3600; 30 by default.
        max_held_bytes: bytes that claimed jobs may weigh which wait for a worker, and outcomes that
            wait to be stored, from 16 MiB on; 64 MiB each by default.
        no_new_privileges: whether programs that jobs start are kept from gaining rights by a setuid
            bit; True by default.
        rlimits: limits of each worker process by name, such as ``NOFILE`` or ``AS``, see
            setrlimit(2); none by default.
        cores: CPU cores that jobs whose kind names a weight may take together; None, the default:
            as many as this process may really use.
        memory: bytes that they may take together; None, the default: as many as there are.

    Raises:
        ConfigurationError: a value out of its range, named with its field.
    """

    processes: int
    start_method: StartMethod = "forkserver"
    drain_timeout_s: float = 25.0
    preload: tuple[str, ...] = ()
    on_worker_start: Callable[[], object] | None = None
    start_timeout_s: float = 60.0
    worker_env: tuple[str, ...] | None = None
    max_jobs: int | None = None
    max_worker_rss: int | None = None
    cancel_grace_s: float = 5.0
    lease_ttl_s: float = 30.0
    max_held_bytes: int = HELD_BYTES
    no_new_privileges: bool = True
    rlimits: Mapping[str, int] = field(default_factory=dict[str, int])
    cores: int | None = None
    memory: int | None = None

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
        if not 1 <= self.start_timeout_s <= 86400:
            raise ConfigurationError("start_timeout", self.start_timeout_s, "from 1 s to 1 day")
        self._check_life()

    def _check_life(self) -> None:
        """Checks how a worker process begins and how long it serves."""
        if self.max_jobs is not None and (
            not isinstance(self.max_jobs, int) or self.max_jobs < 1  # pyright: ignore[reportUnnecessaryIsInstance]
        ):
            raise ConfigurationError("max_jobs", self.max_jobs, "must be a whole number from 1 on")
        if self.max_worker_rss is not None:
            check_bytes("max_worker_rss", self.max_worker_rss)
        check_bytes("max_held_bytes", self.max_held_bytes, least_mib=_HELD_MIB_MIN)
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


def check_bytes(field_name: str, value: object, *, least_mib: int = 1) -> int:
    """Returns *value* if it is a number of bytes.

    Raises:
        ConfigurationError: it is not a whole number from *least_mib* mebibytes on.
    """
    least = least_mib * _MIB
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**63:
        problem = f"must be a number of bytes, from {least_mib} MiB on"
        raise ConfigurationError(field_name, value, problem)
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
