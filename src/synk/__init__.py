"""synk: a durable job queue on PostgreSQL whose jobs run in worker processes that can be killed.

The public names, and nothing else. All but the errors load when they are used: a worker process
imports this package too, and must not load a database driver with it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from synk import errors
from synk.errors import *  # noqa: F403 - all of them are public

if TYPE_CHECKING:
    from synk import telemetry as telemetry
    from synk.arguments import JobArgs as JobArgs
    from synk.async_client import AsyncClient as AsyncClient
    from synk.bulk import Changes as Changes
    from synk.bulk import Found as Found
    from synk.bulk import JobFilter as JobFilter
    from synk.choices import Cancel as Cancel
    from synk.choices import RetryAt as RetryAt
    from synk.choices import Snooze as Snooze
    from synk.client import Client as Client
    from synk.config import CleanerConfig as CleanerConfig
    from synk.config import QueueConfig as QueueConfig
    from synk.failure import AttemptError as AttemptError
    from synk.failure import Cause as Cause
    from synk.insertion import InsertOptions as InsertOptions
    from synk.job import Job as Job
    from synk.limit import Limit as Limit
    from synk.periodic import Periodic as Periodic
    from synk.queue_steps import Paused as Paused
    from synk.registry import Worker as Worker
    from synk.registry import worker as worker
    from synk.row import CancelReason as CancelReason
    from synk.row import Change as Change
    from synk.row import JobRow as JobRow
    from synk.row import JobState as JobState
    from synk.row import Priority as Priority
    from synk.row import Progress as Progress
    from synk.storage.base import Storage as Storage
    from synk.storage.postgres import PostgresStorage as PostgresStorage
    from synk.unique import Inserted as Inserted
    from synk.unique import Unique as Unique
    from synk.unique import UniqueScope as UniqueScope

_NAMES = {
    "arguments": ("JobArgs",),
    "async_client": ("AsyncClient",),
    "bulk": ("Changes", "Found", "JobFilter"),
    "choices": ("Cancel", "RetryAt", "Snooze"),
    "client": ("Client",),
    "config": ("CleanerConfig", "QueueConfig"),
    "failure": ("AttemptError", "Cause"),
    "insertion": ("InsertOptions",),
    "job": ("Job",),
    "limit": ("Limit",),
    "queue_steps": ("Paused",),
    "periodic": ("Periodic",),
    "registry": ("Worker", "worker"),
    "row": ("CancelReason", "Change", "JobRow", "JobState", "Priority", "Progress"),
    "storage.base": ("Storage",),
    "storage.postgres": ("PostgresStorage",),
    "unique": ("Inserted", "Unique", "UniqueScope"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__version__ = "0.1.0"
__all__ = [  # noqa: PLE0604 - all of them strings
    *(name for name, value in vars(errors).items() if isinstance(value, type)),
    *_HOME,  # pyright: ignore[reportUnsupportedDunderAll] - the names imported for it above
    "telemetry",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "telemetry":
        return importlib.import_module("synk.telemetry")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'synk' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"synk.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
