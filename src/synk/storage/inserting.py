"""Inserts: how they are cut into statements, sent, and when they are repeated."""

from __future__ import annotations

import random
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TypeVar

from synk.errors import OutcomeUnknown, StorageConflict
from synk.insertion import cannot_be_doubled
from synk.storage.borrowing import lent
from synk.storage.cursors import PlainCursor, answer, run
from synk.storage.faults import told_if_unknown, was_rolled_back
from synk.storage.statements_unique import asked
from synk.unique import Inserted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Sequence
    from contextlib import AbstractContextManager

    import psycopg

    from synk.insertion import NewJob
    from synk.storage.connecting import Connector
    from synk.storage.statement import Statement
    from synk.storage.statements import Statements

T = TypeVar("T")

INSERT_JOBS: Final = 2_500
_INSERT_CHARACTERS: Final = 16 * 1024 * 1024
"""Rows, and characters of arguments, of one statement: beyond this a bulk insert gains nothing, and
memory grows; the server's limit is 256 MB."""

UNDER_WAY: Final = 4
"""Statements that are sent before the answer to the first is waited for: psycopg waits for those to
all of them, and then the server has nothing to do until the next one is made."""

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
    """Cuts *jobs* where there are too many for one statement, or too many characters."""
    chunks: list[Sequence[NewJob]] = []
    for start in range(0, len(jobs), INSERT_JOBS):
        chunks += _light_parts(jobs[start : start + INSERT_JOBS])
    return chunks


def _light_parts(jobs: Sequence[NewJob]) -> list[Sequence[NewJob]]:
    if sum([len(job.args) for job in jobs]) <= _INSERT_CHARACTERS or len(jobs) == 1:
        return [jobs]
    middle = len(jobs) // 2
    return _light_parts(jobs[:middle]) + _light_parts(jobs[middle:])


def insert_statement(statements: Statements, chunk: Sequence[NewJob]) -> Statement[list[int]]:
    """Returns the statement that inserts *chunk*: there is one for a row alone."""
    return statements.insert(chunk[0]) if len(chunk) == 1 else statements.insert_many(chunk)


def unique_steps(
    statements: Statements, jobs: Sequence[NewJob], *, held: bool
) -> Generator[Iterable[Statement[Any]], list[Any], list[Inserted]]:
    """Gives statements that insert *jobs*, of which some are unique, and is sent their answers.

    They are sent in the order of what they are unique by, so that two inserts that meet in several
    scopes do not wait for each other; before them those that are not unique.
    """
    order = sorted(range(len(jobs)), key=lambda place: jobs[place].chosen)
    count = sum(not job.chosen for job in jobs)
    plain, unique = (
        [jobs[place] for place in order[:count]],
        [jobs[place] for place in order[count:]],
    )
    answers = yield (insert_statement(statements, chunk) for chunk in chunks_of(plain))
    ids = [Inserted(job_id) for answer in answers for job_id in answer]
    chunks = chunks_of(unique)
    answers = yield (statements.insert_unique(chunk) for chunk in chunks)
    for chunk, stored in zip(chunks, answers, strict=True):
        ids += yield from asked(statements, chunk, stored, held=held)
    found = dict(zip(order, ids, strict=True))
    return [found[place] for place in range(len(jobs))]


def _repeated(once: Callable[[Sequence[NewJob]], list[T]], jobs: Sequence[NewJob]) -> list[T]:
    for pause_s in pauses_before_repeats():
        try:
            return once(jobs)
        except (OutcomeUnknown, StorageConflict) as error:
            if not may_be_repeated(error, jobs):
                raise
        time.sleep(pause_s)
    return once(jobs)


@dataclass(frozen=True, slots=True)
class Inserting:
    """Inserts jobs in transactions of its own, and in others'.

    Args:
        connector: makes and lends connections.
        statements: what is run on them.
        translated: translates errors.
    """

    connector: Connector
    statements: Statements
    translated: Callable[[], AbstractContextManager[None]]

    def in_transaction_of(self, connection: object, jobs: Sequence[NewJob]) -> list[int]:
        """Inserts on a connection of the caller's, which is left as it was."""
        chunks = chunks_of(jobs)
        with lent(connection, as_one=len(chunks) > 1) as own:
            return self._on(own, chunks)

    def alone(self, jobs: Sequence[NewJob]) -> list[int]:
        """Inserts in a transaction of its own; repeats it if that is safe and may help.

        Raises:
            OutcomeUnknown: the answer was lost, and a repeat might store the jobs twice.
        """
        return _repeated(self._once, jobs)

    def unique_in_transaction_of(
        self, connection: object, jobs: Sequence[NewJob]
    ) -> list[Inserted]:
        """As `in_transaction_of`, for jobs of which some are unique."""
        with lent(connection, as_one=True) as own:
            return self._unique_on(own, jobs, held=True)

    def unique_alone(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        """As `alone`, for jobs of which some are unique."""
        return _repeated(self._unique_once, jobs)

    def _once(self, jobs: Sequence[NewJob]) -> list[int]:
        chunks = chunks_of(jobs)
        with (
            self.translated(),
            self.connector.connection() as own,
            told_if_unknown(self.connector.describe),
        ):
            if len(chunks) == 1 and own.autocommit:
                # One statement is a transaction by itself.
                return self._on(own, chunks)
            with own.transaction():
                if self.connector.is_pipelined:
                    made = (insert_statement(self.statements, chunk) for chunk in chunks)
                    return list(chain.from_iterable(_pipelined(own, made)))
                return self._on(own, chunks)

    def _unique_once(self, jobs: Sequence[NewJob]) -> list[Inserted]:
        with (
            self.translated(),
            self.connector.connection() as own,
            told_if_unknown(self.connector.describe),
        ):
            if len(jobs) == 1 and own.autocommit:
                # Nothing is stored by any of its statements but the last.
                return self._unique_on(own, jobs, held=False)
            with own.transaction():
                return self._unique_on(own, jobs, held=False)

    def _unique_on(
        self, connection: psycopg.Connection[Any], jobs: Sequence[NewJob], *, held: bool
    ) -> list[Inserted]:
        # In the caller's transaction nothing of synk's is in a pipeline.
        is_pipelined = self.connector.is_pipelined and len(jobs) > INSERT_JOBS and not held
        steps = unique_steps(self.statements, jobs, held=held)
        asked = next(steps)
        try:
            while True:
                if is_pipelined:
                    answers = _pipelined(connection, asked)
                else:
                    answers = [run(connection, statement) for statement in asked]
                asked = steps.send(answers)
        except StopIteration as stopped:
            return stopped.value

    def _on(self, connection: psycopg.Connection[Any], chunks: list[Sequence[NewJob]]) -> list[int]:
        ids: list[int] = []
        for chunk in chunks:
            ids += run(connection, insert_statement(self.statements, chunk))
        return ids


def _pipelined(connection: psycopg.Connection[Any], statements: Iterable[Statement[T]]) -> list[T]:
    """While the server works on statements, the next ones are made and sent."""
    answers: list[T] = []
    with connection.pipeline(), ExitStack() as cursors:
        sent: deque[tuple[PlainCursor, Statement[T]]] = deque()
        for statement in statements:
            cursor = cursors.enter_context(PlainCursor(connection))
            cursor.execute(statement.text, statement.parameters, binary=statement.binary)
            sent.append((cursor, statement))
            if len(sent) == UNDER_WAY:
                answers.append(answer(*sent.popleft()))
        answers += [answer(*each) for each in sent]
    return answers
