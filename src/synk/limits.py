"""The limits of a client while jobs run: what is set of them, and how much of them is taken.

What is set is stored, holds in every supervisor, also in those that start later, and stays until
somebody says otherwise. Producers can set it as well as who runs the queues.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from synk.errors import ConfigurationError
from synk.limit_steps import UNCHANGED, listing, setting, unsetting
from synk.queue_steps import Ask
from synk.storage.limiting import LimitInspection
from synk.storage.settings import RuntimeSettings

if TYPE_CHECKING:
    from synk.limit import Rate
    from synk.limit_status import LimitStatus
    from synk.limit_steps import KeyValue, Unchanged
    from synk.queue_steps import Steps
    from synk.storage.base import Storage

T = TypeVar("T")


class ClientLimits:
    """Sets limits while jobs run, for all keys of a limit or for one, and shows them.

    Args:
        storage: where what is set is kept.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def set(
        self,
        name: str,
        *,
        running: int | Unchanged | None = UNCHANGED,
        rate: Rate | Unchanged | None = UNCHANGED,
        key: KeyValue | None = None,
    ) -> None:
        """Has another *running* or *rate* hold than the code says, in place of what was set before.

        What runs goes on: where less is allowed than runs, no more begins until enough has ended.
        Safe to repeat.

        Args:
            name: the limit's name; it need not be known here.
            running: see `Limit.running`; None: any number. Left out, it stays as it is.
            rate: see `Limit.rate`; None: as they come. Left out, it stays as it is.
            key: the value of the key that it is for, as it is in the arguments; None: for all keys
                that nothing is set for by themselves.

        Raises:
            ConfigurationError: a value is wrong, nothing is to be set, or the storage has no
                settings.
            StorageError: the database could not be reached, or gave up on it.
        """
        self._done(setting(name, running=running, rate=rate, key=key))

    def unset(self, name: str, *, key: KeyValue | None = None) -> None:
        """Has what the code says hold again; for one *key*, what holds for all. Safe to repeat.

        Raises:
            ConfigurationError: as in `set`.
            StorageError: the database could not be reached, or gave up on it.
        """
        self._done(unsetting(name, key=key))

    def list(self) -> list[LimitStatus]:
        """Returns the limits that supervisors have told of, or that are set, by name.

        Of each the keys that have jobs waiting or processes at work, up to some hundreds.

        Raises:
            ConfigurationError: the storage has no settings, or no limits.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._done(listing())

    def _done(self, steps: Steps[T]) -> T:
        if not isinstance(self._storage, RuntimeSettings) or not isinstance(
            self._storage, LimitInspection
        ):
            raise ConfigurationError("storage", self._storage, "has no limits")
        answer: Any = None
        while True:
            try:
                step = steps.send(answer)
            except StopIteration as end:
                return end.value
            assert isinstance(step, Ask)  # noqa: S101 - none of them waits
            answer = getattr(self._storage, step.name)(*step.given)
