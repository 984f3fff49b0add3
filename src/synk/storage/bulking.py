"""What `Client.retry_many` and the others ask of a storage.

Not part of the contract in `synk.storage.base`: without it they raise ConfigurationError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.bulk import Changes, Found, JobFilter

Verb: TypeAlias = Literal["retry_many", "cancel_many", "delete_many"]
Progress: TypeAlias = "Callable[[Changes], object]"
"""Is told after each batch how far it is; what it raises ends the work there."""


@runtime_checkable
class Bulking(Protocol):
    """A storage that can change many jobs at once."""

    def count_many(self, wanted: JobFilter) -> Found:
        """Counts the jobs of the filter *wanted*, as far as is worth it."""
        ...

    def change_many(
        self,
        verb: Verb,
        wanted: JobFilter,
        *,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Changes:
        """Does *verb* to the jobs of *wanted* that there are now, up to *limit* of them.

        A batch of them is a transaction, and waits for nobody: what somebody else has locked is
        skipped. *progress* is told after each of them.
        """
        ...


def check_bulking(storage: Any) -> Bulking:
    """Returns *storage* if it can change many jobs at once.

    Raises:
        ConfigurationError: it is one of one's own, which cannot.
    """
    if not isinstance(storage, Bulking):
        raise ConfigurationError("storage", storage, "cannot change many jobs at once")
    return storage
