"""What people who look ask of the storage, and supervisors tell it for them; the commands show it.

Not part of the contract in `synk.storage.base`: of synk's own storage only, and as it needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence
    from uuid import UUID

    from synk.row import CancelReason, JobList, JobState, KindSummary
    from synk.status import ClientRow, QueueDepths, UnknownKind


@runtime_checkable
class Inspection(Protocol):
    """What can be seen of jobs and supervisors.

    Each method is one transaction, and raises what those of `Storage` do.
    """

    def jobs(
        self,
        *,
        state: JobState | None,
        queue: str | None,
        kind: str | None,
        limit: int,
        reason: CancelReason | None = None,
        since: dt.datetime | dt.timedelta | None = None,
        tags: Sequence[str] = (),
    ) -> JobList:
        """Returns up to *limit* jobs, newest first, of this *state*, *queue* and *kind*; None: any.

        They have all of *tags*. Of jobs in a final state those that ended last. *reason* asks for
        cancelled ones; *since*, a time or an age, for those that have ended since, or else were
        inserted since. What can be long is left out of them. It may give up where too many do not
        match, and then says so.
        """
        ...

    def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """Returns how many jobs of *queue* (None: of all) are in each state that occurs."""
        ...

    def summary(self, queue: str | None = None) -> list[KindSummary]:
        """Returns what the jobs of each kind took, in *queue* (None: in all)."""
        ...

    def clients(self, within: dt.timedelta) -> list[ClientRow]:
        """Returns the supervisors that were seen in the time *within*, those that run first."""
        ...

    def unknown_kinds(self, queues: Sequence[str] | None = None) -> list[UnknownKind]:
        """Returns kinds of waiting jobs that no living supervisor of their queue has a worker for.

        At most `KINDS_TOLD`, the most frequent first, of *queues* or of all. A storage may look at
        the front of each queue only, where they gather. Nothing is said of a queue that nobody
        serves, nor of one that somebody serves who did not say which kinds he knows.
        """
        ...

    def queue_depths(self) -> QueueDepths:
        """Returns how many jobs wait and run, at a cost that does not grow with their number."""
        ...

    def ask_stack(self, job_id: int) -> int | None:
        """Asks where *job_id* is in its code; returns the question's id, None if it rests."""
        ...

    def stack_questions(self, owner: UUID) -> list[tuple[int, int]]:
        """Returns (question, job id) for the open questions to *owner*."""
        ...

    def answer_stack(self, question: int, answer: str) -> None:
        """Stores the *answer* to a *question*."""
        ...

    def stack_answer(self, question: int) -> str | None:
        """Returns the answer to *question*, None while there is none."""
        ...
