"""The client: inserts jobs and, with queues and workers, runs them; its other verbs: `synk.verbs`.

Making one opens, starts and reads nothing, and a client works again in a child process. The
supervisor is imported when it starts: a producer needs none, nor does a worker process, which
imports the module that makes the client.

The file is long for what help() says of the settings, which is half of it.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Self

from ulid import ULID

from synk import cpus
from synk.config import (
    HELD_BYTES,
    EngineConfig,
    check_cleaner,
    check_queues,
    known_limits,
    seconds_of,
)
from synk.errors import ConfigurationError
from synk.insertion import check_given, new_job, new_jobs, told
from synk.limits import ClientLimits
from synk.periodic import check_periodic
from synk.queues import Queues, drain
from synk.registry import Registry
from synk.runtime.ipc import process_role
from synk.schedules import PeriodicJobs, check_scheduling
from synk.storage.limiting import Limiting
from synk.storage.sweeping import check_sweeps
from synk.storage.uniqueness import insert_of
from synk.telemetry import Telemetry
from synk.telemetry.log import LogThread
from synk.verbs import JobVerbs
from synk.waits import InsertWait, check_no_wait
from synk.weight import bytes_of, checked_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from synk.config import CleanerConfig, QueueConfig, StartMethod
    from synk.insertion import InsertOptions, JobSpec, NewJob
    from synk.periodic import Periodic
    from synk.runtime.supervisor.service import Service
    from synk.runtime.supervisor.supervisor import Supervisor
    from synk.status import SlotStatus
    from synk.storage.base import Storage
    from synk.unique import Inserted

_LOG_S: Final = 1.0
"""How long the last lines may take to be logged when a client stops."""


class Client(JobVerbs):
    """Inserts jobs, and runs them if it has queues and workers.

    Args:
        storage: a `PostgresStorage`, or any class that keeps the `Storage` contract.
        queues: name -> settings of the queues that `start` serves.
        workers: instances of `Worker`, or functions under ``@synk.worker``; also by what they say
            inserts of their kinds default to.
        cleaner: how long finished jobs are kept; None: this client does not clean.
        logger: where a running client writes; by default the logger ``synk``.
        processes: how many worker processes `start` makes; None: as many as this process may
            really use CPUs (affinity and cgroup quota).
        start_method: how they are made: ``forkserver``, or ``spawn`` where handlers' modules
            cannot be forked.
        drain_timeout: how long running jobs may take at a shutdown before they are killed, 25 s by
            default, at most 1 day; the platform must wait at least 5 s longer: Kubernetes does by
            default.
        preload: more modules to import once, before workers are forked, besides the handlers' own.
            What an import leaves behind must be of use in what is forked. Refused by name are
            threads, of Python and of native libraries that do not start anew after a fork (polars'
            pool, some OpenMP runtimes), sockets, event loops, and files open for writing; files
            that are only read are opened once more in each worker. Make the others in
            *on_worker_start*, or use ``start_method="spawn"``.
        on_worker_start: a function at the top of a module, called in each worker process before its
            first job: to open a connection, to load a model, to start threads.
        start_timeout: how long a worker process may take until it is ready for jobs, 60 s by
            default, from 1 s to 1 day: for *on_worker_start*, and where it is not forked for its
            imports; also how long the imports may take that all share. Then it is killed, the log
            says where it was, and another one is tried. Where no worker was ready before, `start`
            gives up after a few.
        worker_env: the names of the environment variables that worker processes get; None: all of
            them. Name some where jobs must not see the others: SYNK_DATABASE_URL, PGPASSWORD.
        max_jobs: a worker process is replaced after so many jobs; 1 gives each job a fresh one.
        max_worker_rss: it is replaced, between two jobs, when it has more bytes of memory of its
            own; what counts is said at `QueueConfig`, for `max_rss`.
        cancel_grace: how long a running job that is cancelled may take to end by itself, after
            `JobCancelled` was raised in it, before it is killed; 5 s by default, at most 1 hour.
        lease_ttl: for how long this client owns its jobs after the last word of it: after a crash
            others run them then. 30 s by default, from 6 s to 1 hour. What cannot be renewed in
            time is killed here first.
        max_held_bytes: how many bytes the claimed jobs that wait for a worker may weigh together,
            by their arguments, and how many the outcomes that wait to be stored, by their results
            and records; 64 MiB each by default, from 16 MiB on. Beyond that nothing more is
            claimed; one claim asks for a quarter of it at most.
        no_new_privileges: whether programs that jobs start are kept from gaining rights by a setuid
            bit (sudo, ping).
        rlimits: limits of each worker process, as ``{"NOFILE": 4096, "AS": 8 << 30}``.
        cores: how many CPU cores the jobs may take together whose worker names `cores`; None: as
            many as this process may really use.
        memory: likewise how many bytes, as a number or as ``"24GiB"``; None: all that the machine
            has, or this process's control group may use.
        periodic: jobs that come again and again; they are stored when `start` begins, and tick
            wherever a supervisor runs.
        insert_wait: how long `insert` and `insert_many` wait for a database that cannot be reached,
            where they are not told otherwise; zero, the default: not at all.

    Attributes:
        id: this client's id, a ULID; new each time a client is made or has run, and in
            `attempted_by` of its jobs.
        telemetry: tells of what a running client does: ``client.telemetry.subscribe(function)`` has
            it called with each fact of `synk.telemetry`, as `AttemptFailed` and `AttemptSucceeded`.
        queues: the queues that `start` serves, by name with their settings; and the verbs that
            pause, resume and resize queues while they run, see `synk.queues.Queues`.
        periodic: lists, pauses, resumes, runs and removes periodic jobs.
        limits: the verbs that set limits while jobs run and show them, see
            `synk.limits.ClientLimits`.
        registry: the workers by kind.
        engine: the settings above that are about worker processes.

    Raises:
        ConfigurationError: a value is wrong, there are queues without workers, two workers for
            one kind, or two limits of one name that say different things.
    """

    _service: Service | None = None
    """What runs; None: nothing does."""

    def __init__(  # noqa: PLR0913 - the settings of a client, all by name
        self,
        *,
        storage: Storage,
        queues: Mapping[str, QueueConfig] | None = None,
        workers: Sequence[object] = (),
        cleaner: CleanerConfig | None = None,
        logger: logging.Logger | None = None,
        processes: int | None = None,
        start_method: StartMethod = "forkserver",
        drain_timeout: dt.timedelta = dt.timedelta(seconds=25),
        preload: Sequence[str] = (),
        on_worker_start: Callable[[], object] | None = None,
        start_timeout: dt.timedelta = dt.timedelta(seconds=60),
        worker_env: Sequence[str] | None = None,
        max_jobs: int | None = None,
        max_worker_rss: int | None = None,
        cancel_grace: dt.timedelta = dt.timedelta(seconds=5),
        lease_ttl: dt.timedelta = dt.timedelta(seconds=30),
        max_held_bytes: int = HELD_BYTES,
        no_new_privileges: bool = True,
        rlimits: Mapping[str, int] | None = None,
        cores: int | None = None,
        memory: int | str | None = None,
        periodic: Sequence[Periodic] = (),
        insert_wait: dt.timedelta = dt.timedelta(0),
    ) -> None:
        self.storage = _checked_storage(storage)
        self.registry = Registry(workers)
        self.queues = Queues(check_queues(queues or {}, self.registry.kinds), storage)
        self.limits = ClientLimits(storage)
        self.cleaner = check_cleaner(cleaner)
        self.engine = EngineConfig(
            processes=cpus.available() if processes is None else processes,
            start_method=start_method,
            drain_timeout_s=seconds_of("drain_timeout", drain_timeout),
            preload=tuple(preload),
            on_worker_start=on_worker_start,
            start_timeout_s=seconds_of("start_timeout", start_timeout),
            worker_env=None if worker_env is None else tuple(worker_env),
            max_jobs=max_jobs,
            max_worker_rss=max_worker_rss,
            cancel_grace_s=seconds_of("cancel_grace", cancel_grace),
            lease_ttl_s=seconds_of("lease_ttl", lease_ttl),
            max_held_bytes=max_held_bytes,
            no_new_privileges=no_new_privileges,
            rlimits=dict(rlimits or {}),
            cores=None if cores is None else checked_cores(cores),
            memory=None if memory is None else bytes_of("memory", memory),
        )
        self._insert_wait_s = seconds_of("insert_wait", insert_wait)
        self._limits = known_limits(self.registry.limits, self.queues)
        if self._limits and not isinstance(storage, Limiting):
            limits = list(self._limits)
            raise ConfigurationError("limit", limits, "is for a storage that limits: see Limiting")
        self._declared = check_periodic(periodic, self.registry.defaults, self._limits)
        check_scheduling(storage, self._declared)
        self.periodic = PeriodicJobs(storage, self.registry, self._limits)
        self.id = ULID()
        self.telemetry = Telemetry()
        self._log = LogThread.to(logger or logging.getLogger("synk"))
        self.telemetry.subscribe(self._log, successes=False)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<synk.Client {self.id} on {self.storage!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inserting --------------------------------------------------------------------------------

    def insert(
        self,
        name: str,
        args: Any,
        options: InsertOptions | None = None,
        *,
        wait: dt.timedelta | None = None,
    ) -> Inserted:
        """Stores a job; returns its id, or that of the one that its `Unique` meets.

        Without an `InsertOptions.idempotency_key` it waits only while nothing can have been stored;
        with one also after an answer that was lost, and stores the job once.

        Args:
            name: what people read in lists; not unique, 1 to 127 characters.
            args: an instance of a `JobArgs` dataclass, a msgspec Struct or a pydantic model.
            options: when, in which queue, after what; see `InsertOptions`.
            wait: how long to wait in all, with a back-off, for a database that cannot be reached;
                None: the client's `insert_wait`. What was sent by then is waited for.

        Raises:
            ConfigurationError: *wait* is no timedelta, or below zero.
            InvalidJob: a value is wrong; nothing was stored.
            UnknownDependency: `depends_on` names a job that does not exist; nothing was stored.
            KeyReused: the `idempotency_key` is that of another job; nothing was stored.
            NotUnique: another job is in its scope, and its `Unique` raises then.
            StorageUnavailable: the database could not be reached in that time.
            OutcomeUnknown: the answer was lost, and a repeat might store the job twice.
            StorageConflict: the server gave up on locks or time, also when it was tried again;
                nothing was stored.
        """
        job = new_job(name, args, options, self.registry.defaults, self._limits)
        check_sweeps(self.storage, [job])
        return told(self._stored([job], wait)[0], job)

    def insert_tx(
        self, connection: object, name: str, args: Any, options: InsertOptions | None = None
    ) -> Inserted:
        """Stores a job in the caller's transaction; returns its id, as `insert`.

        The job exists once the caller commits, and never did if it rolls back. One that its
        `Unique` meets does not begin before that.

        Args:
            connection: a `psycopg.Connection` on the same database, a ``Session`` or ``Connection``
                of SQLAlchemy, or Django's ``connection``; it is left open, uncommitted.
            name: see `insert`.
            args: see `insert`.
            options: see `insert`.

        Raises:
            ConfigurationError: there is no connection, or none of psycopg's in it, or it is closed,
                its transaction has failed before, or may only read.
            InvalidJob: a value is wrong; the transaction is untouched.
            UnknownDependency: there is no such job; the transaction is in PostgreSQL's error state.
            KeyReused: the key is that of another job; the transaction is in that state too.
            NotUnique: as in `insert`; the transaction is as it was.
            StorageUnavailable: the connection is broken, and the transaction with it.
            StorageConflict: the connection is in the middle of a stream, or others use it.
            psycopg.Error: something that you sent before, in a pipeline, has failed.
        """
        check_given(connection)
        job = new_job(name, args, options, self.registry.defaults, self._limits)
        check_sweeps(self.storage, [job])
        return told(insert_of(self.storage, [job])([job], connection=connection)[0], job)

    def insert_many(
        self,
        jobs: Iterable[JobSpec],
        *,
        connection: object | None = None,
        wait: dt.timedelta | None = None,
    ) -> list[int]:
        """Stores jobs, all or none; returns their ids in order, as `Inserted` if some are unique.

        Args:
            jobs: (name, args) or (name, args, options) for each.
            connection: as in `insert_tx`; None: a transaction of its own.
            wait: as in `insert`; not with a *connection*, whose transaction is the caller's.

        Raises:
            ConfigurationError: as in `insert` and `insert_tx`, or *wait* beside a *connection*.
            InvalidJob: a value is wrong; nothing was stored.
            UnknownDependency: there is no such job; nothing was stored.
            KeyReused: a key is that of another job; nothing was stored.
            NotUnique: as in `insert`; nothing was stored.
            StorageUnavailable: as in `insert`.
            OutcomeUnknown: as in `insert`.
            StorageConflict: as in `insert`.
        """
        check_no_wait(connection, wait)
        rows = new_jobs(jobs, self.registry.defaults, self._limits)
        if not rows:
            return []
        check_sweeps(self.storage, rows)
        if connection is not None:
            return insert_of(self.storage, rows)(rows, connection=connection)
        return self._stored(rows, wait)

    def _stored(self, jobs: list[NewJob], wait: dt.timedelta | None) -> list[int]:
        wait_s = self._insert_wait_s if wait is None else seconds_of("wait", wait)
        store = insert_of(self.storage, jobs)
        if not wait_s:
            return store(jobs)
        waiting = InsertWait(jobs, wait_s)
        while True:
            with waiting:
                return store(jobs)
            time.sleep(waiting.pause_s)

    # -- running ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Runs this client's queues; returns after a shutdown.

        SIGTERM, SIGINT and SIGHUP (unless it is ignored) shut it down where this is the main
        thread. A second one leaves running jobs three seconds, a third none.

        Raises:
            ConfigurationError: it has no queues, runs already, or is in a worker process.
            StorageUnavailable: the database cannot be reached at the start.
            SchemaMismatch: migrations are missing.
            WorkerStartError: worker processes cannot be started.
        """
        from synk.runtime.supervisor.service import Service  # noqa: PLC0415 - see the module's head

        if not self.queues:
            raise ConfigurationError("queues", {}, "this client has none to serve, it only inserts")
        with self._lock:
            if self._service is not None:
                raise ConfigurationError("start", str(self.id), "this client runs already")
            self._service = Service(self._new_supervisor)
        try:
            self._service.run()
        finally:
            self._service = None
            self.id = ULID()
            self._log.flush(_LOG_S)

    def _new_supervisor(self) -> Supervisor:
        from synk.runtime.supervisor.supervisor import Supervisor  # noqa: PLC0415 - as above

        if self._service is not None:
            # Not the first: the id before can never own a job again.
            self.id = ULID()
        return Supervisor(
            self.storage,
            owner=self.id.to_uuid(),
            queues=self.queues,
            registry=self.registry,
            engine=self.engine,
            cleaner=self.cleaner,
            facts=self.telemetry,
            periodic=self._declared,
        )

    def shutdown(self, timeout: dt.timedelta | None = None) -> None:
        """Has a running client stop; returns at once. `start` returns when it has stopped.

        From a signal handler, another thread, or a job in one of its worker processes. A second
        call leaves running jobs three seconds at most, a third none.

        Args:
            timeout: for running jobs to finish; then they are killed and go back to the queue.
                None: `drain_timeout` the first time.

        Raises:
            ConfigurationError: *timeout* is no timedelta, or below zero.
        """
        service = self._service
        if service is not None:
            service.stop(None if timeout is None else seconds_of("timeout", timeout))
        elif process_role.role is process_role.ProcessRole.WORKER:
            os.kill(process_role.supervisor_pid, signal.SIGTERM)

    def running(self) -> list[SlotStatus]:
        """Returns what each worker process of a running client does now; empty if it does not run.

        For a view: the figures are those of the supervisor's last look, a moment ago.
        """
        service = self._service
        return [] if service is None else service.activity()

    def drain_supervisor(self, supervisor: str, *, by: str | None = None) -> bool:
        """Has a supervisor anywhere stop, as SIGTERM has; returns at once whether it runs.

        It claims no more, lets running jobs finish for its `drain_timeout`, and ends. Whatever has
        started it may start it anew. Safe to repeat.

        Args:
            supervisor: the id of its client, see ``synk top``.
            by: who says so, for people who look; by default the user and the machine.

        Raises:
            ConfigurationError: *supervisor* is no id, or the storage has no way to tell it.
            StorageError: the database could not be reached, or gave up on it.
        """
        return drain(self.storage, supervisor, by)

    def close(self) -> None:
        """Shuts down if it runs, and gives up the storage's connections."""
        self.shutdown()
        self.storage.close()


def _checked_storage(storage: Any) -> Any:
    for method in ("ping", "insert", "get_job_available", "update_job_state", "close"):
        if not callable(getattr(storage, method, None)):
            raise ConfigurationError("storage", storage, f"is no Storage: it has no {method}()")
    return storage
