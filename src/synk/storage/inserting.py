"""How an insert is cut into statements, and when it is repeated."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from synk.errors import OutcomeUnknown
from synk.storage.faults import was_rolled_back

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from synk.errors import StorageConflict
    from synk.insertion import NewJob
    from synk.storage.statements import Statement, Statements

INSERT_JOBS: Final = 2_500
_INSERT_CHARACTERS: Final = 16 * 1024 * 1024
"""Rows, and characters of arguments, of one statement: beyond this a bulk insert gains nothing, and
memory grows; the server's limit is 256 MB."""

_REPEATS: Final = 3
_REPEAT_S: Final = 0.1
"""The pause before the first repeat, at the most; each later one is twice as long."""


def may_be_repeated(error: OutcomeUnknown | StorageConflict, jobs: Sequence[NewJob]) -> bool:
    """Whether a repeat of the insert of *jobs* cannot store one twice, and may succeed.

    After a lost answer that needs an idempotency key of each job. After a deadlock nothing is
    stored; to wait longer for a lock that somebody keeps is the caller's decision.
    """
    if isinstance(error, OutcomeUnknown):
        return all(job.options.idempotency_key is not None for job in jobs)
    return was_rolled_back(error)


def pauses_before_repeats() -> list[float]:
    """Returns the seconds before each repeat of an insert."""
    spread = random.uniform(0.5, 1.0)  # noqa: S311 - not all of those that met in the same instant
    return [_REPEAT_S * 2**number * spread for number in range(_REPEATS)]


def insert_statements(
    statements: Statements, jobs: Sequence[NewJob]
) -> Iterator[Statement[list[int]]]:
    """Yields the statements that insert *jobs*: one row alone, or chunks of many."""
    if len(jobs) == 1:
        yield statements.insert(jobs[0])
        return
    for chunk in _chunks(jobs):
        yield statements.insert_many(chunk)


def _chunks(jobs: Sequence[NewJob]) -> Iterator[Sequence[NewJob]]:
    """Cuts *jobs* where there are too many for one statement, or too many bytes."""
    start = size = 0
    for end, job in enumerate(jobs):
        if end - start == INSERT_JOBS or (size and size + len(job.args) > _INSERT_CHARACTERS):
            yield jobs[start:end]
            start, size = end, 0
        size += len(job.args)
    yield jobs[start:]
