"""How an insert is cut into statements, and when it is repeated."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from synk.errors import OutcomeUnknown
from synk.insertion import cannot_be_doubled
from synk.storage.faults import was_rolled_back

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        return cannot_be_doubled(jobs)
    return was_rolled_back(error)


def pauses_before_repeats() -> list[float]:
    """Returns the seconds before each repeat of an insert."""
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - not all of those that met in the same instant
    return [_REPEAT_S * 2**number * jitter for number in range(_REPEATS)]


def chunks_of(jobs: Sequence[NewJob]) -> list[Sequence[NewJob]]:
    """Cuts *jobs* where there are too many for one statement, or too many bytes."""
    chunks: list[Sequence[NewJob]] = []
    start = size = 0
    for end, job in enumerate(jobs):
        if end - start == INSERT_JOBS or (size and size + len(job.args) > _INSERT_CHARACTERS):
            chunks.append(jobs[start:end])
            start, size = end, 0
        size += len(job.args)
    return [*chunks, jobs[start:]]


def insert_statement(statements: Statements, chunk: Sequence[NewJob]) -> Statement[list[int]]:
    """Returns the statement that inserts *chunk*: there is one for a row alone."""
    return statements.insert(chunk[0]) if len(chunk) == 1 else statements.insert_many(chunk)
