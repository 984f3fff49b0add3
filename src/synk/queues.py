"""The queues of a client: how they are configured, and what can be said of them while they run.

What is said is stored, holds in every supervisor, also in those that start later, and stays until
somebody says otherwise. Producers can say it as well as who runs the queues.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from synk.errors import ConfigurationError
from synk.queue_steps import Ask, checked_size, draining_steps, pausing, saying
from synk.queue_words import MAX_WORKERS, PAUSED
from synk.storage.settings import RuntimeSettings

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from synk.config import QueueConfig
    from synk.queue_steps import Paused, Steps
    from synk.storage.base import Storage

T = TypeVar("T")


class Queues(Mapping[str, "QueueConfig"]):
    """A client's queues by name, with their settings; and the verbs for queues that run.

    Args:
        configured: the queues that this client serves.
        storage: where what is said of queues is kept.
    """

    def __init__(self, configured: Mapping[str, QueueConfig], storage: Storage) -> None:
        self._configured = dict(configured)
        self._storage = storage

    def __getitem__(self, name: str) -> QueueConfig:
        return self._configured[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._configured)

    def __len__(self) -> int:
        return len(self._configured)

    def __repr__(self) -> str:
        return repr(self._configured)

    def pause(
        self,
        queue: str,
        *,
        wait: dt.timedelta | None = None,
        supervisor: str | None = None,
        by: str | None = None,
    ) -> Paused:
        """Has no job of *queue* begin any more; those that run finish.

        Jobs that were claimed and have not begun go back, uncharged. Inserts go on, as do schedules
        and rescues: what comes waits. Safe to repeat.

        Args:
            queue: its name, whether anybody serves it or not; ``*``: all, also later ones.
            wait: how long to wait until no job of it can begin anywhere. A supervisor that cannot
                be reached, or stands still, counts until its lease is over. None: not at all.
            supervisor: the id of the client on which it is paused, see ``synk top``; None: on all,
                also on those that start later.
            by: who pauses it, for people who look; by default the user and the machine.

        Raises:
            ConfigurationError: a value is wrong, no such supervisor runs, or the storage has no
                settings.
            PauseNotInForce: *wait* was over before. The queue is paused all the same.
            StorageError: the database could not be reached, or gave up on it.
        """
        steps = pausing(queue, wait=wait, supervisor=supervisor, by=by)
        return _done(steps, self._storage)

    def resume(self, queue: str, *, supervisor: str | None = None, by: str | None = None) -> None:
        """Has jobs of *queue* begin again, at once. Safe to repeat.

        Args:
            queue: its name; ``*``: all, also those that were paused by name.
            supervisor: the id of the client on which it is resumed; None: on all.
            by: who resumes it; by default the user and the machine.

        Raises:
            ConfigurationError: as in `pause`.
            StorageError: the database could not be reached, or gave up on it.
        """
        _done(saying(PAUSED, False, queue, supervisor=supervisor, by=by), self._storage)  # noqa: FBT003 - a word

    def resize(
        self,
        queue: str,
        max_workers: int | None,
        *,
        supervisor: str | None = None,
        by: str | None = None,
    ) -> None:
        """Has up to *max_workers* jobs of *queue* run at once on each supervisor. Safe to repeat.

        Jobs that run finish, also where there are more of them than that. What really runs at once
        is at most the number of worker processes.

        Args:
            queue: its name; ``*``: all.
            max_workers: 1 to 65535, in place of `QueueConfig.max_workers`; None: as configured.
            supervisor: the id of the client on which it is so; None: on each.
            by: who says so; by default the user and the machine.

        Raises:
            ConfigurationError: as in `pause`.
            StorageError: the database could not be reached, or gave up on it.
        """
        size = checked_size(max_workers)
        _done(saying(MAX_WORKERS, size, queue, supervisor=supervisor, by=by), self._storage)


def drain(storage: Storage, supervisor: str, by: str | None = None) -> bool:
    """See `Client.drain_supervisor`."""
    return _done(draining_steps(supervisor, by), storage)


def _done(steps: Steps[T], storage: Storage) -> T:
    if not isinstance(storage, RuntimeSettings):
        raise ConfigurationError("storage", storage, "has no settings that change while it is used")
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value
        if isinstance(step, Ask):
            answer = getattr(storage, step.name)(*step.given)
        else:
            answer = time.sleep(step)
