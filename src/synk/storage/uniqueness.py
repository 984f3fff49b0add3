"""The part of a storage that knows unique jobs.

Not of the contract in `synk.storage.base`: of a storage without it a client refuses to insert such.

A scope is what jobs of one `Unique` have in common (`NewJob.chosen`), and the period of their
`scheduled_at`. A job is in its scope from its insert on: until it is claimed, or, if it is unique
until it is finished, until it is over or deleted. It enters its scope again by a `Storage.retry`
after its end, which answers ``not_unique`` where another job is in it, and by nothing else: not by
a next try, a release or a rescue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from synk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.insertion import NewJob
    from synk.unique import Inserted


@runtime_checkable
class Uniqueness(Protocol):
    """What is asked for unique jobs. It raises what `Storage.insert` does."""

    def insert_unique(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[Inserted]:
        """Stores *jobs*, some of them unique, all or none; returns their ids in order.

        Of two in one scope the second meets the first, also where both are of *jobs*. It waits for
        a transaction that may put a job into a scope. With *connection*, what it met cannot begin
        before that connection's transaction is over.

        Raises:
            NotUnique: a scope is taken, and the job's `Unique.on_conflict` is ``raise``; or it is
                ``replace``, and the job there runs.
        """
        ...


def insert_of(storage: Any, jobs: Sequence[NewJob]) -> Any:
    """Returns the method of *storage* that inserts *jobs*.

    Raises:
        ConfigurationError: some are unique, and it knows no such jobs.
    """
    if not any(job.chosen for job in jobs):
        return storage.insert
    if isinstance(storage, Uniqueness):
        return storage.insert_unique
    raise ConfigurationError("storage", storage, "has no insert_unique(): it knows no unique jobs")
