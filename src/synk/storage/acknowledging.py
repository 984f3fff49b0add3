"""How outcomes are acknowledged: the cheapest statement first, others only if it left some."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synk.claim import AckAnswer
from synk.errors import InvalidJob, StorageConflict, StorageError
from synk.storage.faults import may_be_of_a_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from synk.claim import Outcome
    from synk.storage.statement import Statement
    from synk.storage.statements import Statements


@dataclass(frozen=True, slots=True)
class Acknowledging:
    """Acknowledges outcomes of one owner's claims, each statement in a transaction of its own."""

    run: Callable[[Statement[Any]], Any]
    statements: Statements
    owner: UUID

    def of(self, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        """See `Storage.update_job_state`."""
        try:
            applied = self._apply(outcomes)
        except (StorageError, InvalidJob) as error:
            if not may_be_of_a_value(error):
                raise
            self._check_values(outcomes)
            if isinstance(error, InvalidJob):
                raise StorageError(f"the fault of no outcome: {error}") from error
            raise
        if applied == len(outcomes):
            return [AckAnswer.APPLIED] * applied
        # What was applied just now reads as a duplicate: the row says that it was acknowledged
        # under this attempt. To the caller the two mean the same.
        answers: list[AckAnswer] = self.run(self.statements.ack_answers(self.owner, outcomes))
        completed = [
            outcome
            for outcome, answer in zip(outcomes, answers, strict=True)
            if answer is AckAnswer.COMPLETED
        ]
        if completed and not self._add_accounts(completed):
            # Somebody holds one of them; the others answer as duplicates the next time.
            answers = [AckAnswer.LOCKED if a is AckAnswer.COMPLETED else a for a in answers]
        return answers

    def _apply(self, outcomes: Sequence[Outcome]) -> int:
        plain = self.statements.ack_plain(self.owner, outcomes)
        if plain is not None:
            # Or somebody else has locked one of the rows.
            with suppress(StorageConflict):
                return self.run(plain)
        return self.run(self.statements.ack(self.owner, outcomes))

    def _add_accounts(self, completed: Sequence[Outcome]) -> bool:
        """Adds what the rows of jobs that completed themselves lack; whether it got to all."""
        return self.run(self.statements.account(self.owner, completed)) == len(completed)

    def _check_values(self, outcomes: Sequence[Outcome]) -> None:
        """Tells a value that is refused from a server that is at a limit, or others' functions.

        Raises:
            InvalidJob: one of the values is to blame, whatever else the server does.
        """
        try:
            self.run(self.statements.check_values(outcomes))
        except StorageError as error:
            if may_be_of_a_value(error):
                raise InvalidJob("job", str(error), "the database refuses this value") from error
            raise
