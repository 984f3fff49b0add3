"""What all worker processes of a supervisor are told when they start."""

from __future__ import annotations

import importlib.util
import os
import socket
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk.errors import ConfigurationError
from synk.runtime.ipc import job_log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.config import EngineConfig, QueueConfig
    from synk.registry import Registry

_THREAD_LIMITS: Final = "threadpoolctl"
"""Of use where it is installed, and imported once then."""


class QueueSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker knows of a queue."""

    timeout_s: float
    nice: int = 0
    """Added to the nice value of the process while it runs a job of this queue."""
    cpus: tuple[int, ...] = ()
    """The CPUs that its jobs run on; empty: any."""


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker process is told when it starts, whichever slot it will serve."""

    client_id: str
    host: str
    supervisor_pid: int
    modules: tuple[str, ...]
    """What to import before anything else."""
    payload: bytes
    """The workers and the hook, pickled by the supervisor: its own objects, for its own child."""
    prepare: dict[str, Any] = {}
    """What makes a fresh interpreter like the supervisor's: paths, and the user's script."""
    withheld: tuple[str, ...] = ()
    """The names of the environment variables that `worker_env` keeps out."""
    queues: dict[str, QueueSetup]
    schema: str | None = None
    """Where the jobs' table is, for `Job.complete_tx`."""
    no_new_privileges: bool = True
    rlimits: dict[str, int] = {}
    log_level: int | None = None
    """What is shown of the jobs' logs, where their modules do not say it; None: as Python does."""


def setup_of(
    config: EngineConfig,
    registry: Registry,
    queues: Mapping[str, QueueConfig],
    client_id: str,
    schema: str | None,
) -> Setup:
    """Returns what the workers of a supervisor are told.

    Args:
        config: how processes are made.
        registry: the handlers that the workers get.
        queues: their settings.
        client_id: tags the processes and their records.
        schema: where the jobs' table is, if there is one.

    Raises:
        ConfigurationError: a worker cannot be sent to a process.
    """
    return Setup(
        client_id=client_id,
        host=socket.gethostname(),
        supervisor_pid=os.getpid(),
        modules=_modules(config, registry),
        payload=_payload(registry, config.on_worker_start),
        withheld=_withheld(config.worker_env),
        queues={name: _queue_setup(queue) for name, queue in queues.items()},
        schema=schema,
        no_new_privileges=config.no_new_privileges,
        rlimits=dict(config.rlimits),
        log_level=job_log.level_of_program(),
    )


def _modules(config: EngineConfig, registry: Registry) -> tuple[str, ...]:
    limits = any(weight.cores for weight in registry.weights.values())
    own = (_THREAD_LIMITS,) if limits and importlib.util.find_spec(_THREAD_LIMITS) else ()
    return tuple(name for name in (*own, *config.preload, *registry.modules) if name != "__main__")


def _withheld(given: tuple[str, ...] | None) -> tuple[str, ...]:
    return () if given is None else tuple(sorted(os.environ.keys() - set(given)))


def _payload(registry: Registry, on_start: object) -> bytes:
    for worker in registry.workers:
        _pickled("workers", worker)
    _pickled("on_worker_start", on_start)
    return _pickled("workers", (registry.workers, on_start))


def _pickled(field: str, value: object) -> bytes:
    pickler: Any = reduction.ForkingPickler
    try:
        return bytes(pickler.dumps(value))
    except Exception as error:  # noqa: BLE001 - whatever pickling complains of
        problem = f"cannot be sent to worker processes: {error}"
        raise ConfigurationError(field, value, problem) from None


def _queue_setup(queue: QueueConfig) -> QueueSetup:
    cpus = tuple(sorted(queue.cpus or ()))
    return QueueSetup(timeout_s=queue.job_timeout.total_seconds(), nice=queue.nice, cpus=cpus)
