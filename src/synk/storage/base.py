"""The Storage contract, in words.

Purpose: everything that a client and a supervisor ask of the database. `PostgresStorage` is the
implementation; a user's own class works too if it passes the conformance suite in `synk.testing`.

Guarantees expected of every implementation:

* each method is one transaction, durable when it returns, unless it is given a connection;
* times are the storage's own clock; a caller only ever sends durations or a user's times;
* methods may be called from several threads at once.

Errors: `StorageUnavailable` when the storage cannot be asked (nothing is known about what it did),
`StorageError` when it refused, `InvalidJob` when a job is not acceptable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from synk.claim import AckAnswer, ClaimCursor, ClaimedJob, Fence, Outcome
    from synk.insertion import NewJob
    from synk.row import CancelReason, Change, JobList, JobRow, JobState, KindSummary
    from synk.status import (
        Beat,
        ClientRow,
        ClientStatus,
        JobProgress,
        Lease,
        QueueDepths,
        Rescued,
        UnknownKind,
    )


@dataclass(frozen=True, slots=True)
class Hints:
    """What was announced; false if nothing was.

    Attributes:
        queues: there are new jobs in these.
        requests: whether running jobs are to be cancelled, or asked where they are.
    """

    queues: frozenset[str] = frozenset()
    requests: bool = False

    def __bool__(self) -> bool:
        return bool(self.queues) or self.requests


class Announcements(Protocol):
    """A subscription to what happens in the storage: hints only, they may be late or missing.

    Attributes:
        is_live: whether hints come at all; if not, polling is all there is.
    """

    is_live: bool

    def wait(self, timeout_s: float) -> Hints:
        """Waits for hints, at most *timeout_s* seconds, and returns those that have come.

        Raises:
            StorageUnavailable: the subscription is broken; make a new one.
        """
        ...

    def wake(self) -> None:
        """Ends the wait of another thread, and all later ones at once; also when it is over."""
        ...


class Heartbeat(Protocol):
    """Renews one supervisor's lease.

    Attributes:
        schema_version: the version of the schema that this code works with; a beat may tell of a
            newer one.
    """

    schema_version: int

    def beat(self) -> Beat | None:
        """Renews the lease, or answers None: it is lost for good.

        Raises:
            StorageUnavailable: it is not known whether it was renewed.
        """
        ...


class Storage(Protocol):
    """What synk needs from a job store. The first eight methods are the original's.

    Each method is one transaction, durable when it returns, unless it is given a connection. Each
    raises `StorageUnavailable` when the storage cannot be asked: what it did is not known then;
    and `StorageError` when it refused.
    """

    def ping(self) -> Sequence[str]:
        """Returns if the storage answers and has a schema that this version works with.

        What it returns are lines for an operator: what may be trouble all the same.

        Raises:
            StorageUnavailable: it does not answer.
            SchemaMismatch: it lacks migrations that this version needs, or has newer ones.
        """
        ...

    def get_job_available(
        self,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        after: Mapping[int, ClaimCursor] | None = None,
        bytes_max: int | None = None,
    ) -> list[ClaimedJob]:
        """Claims up to *limit* due jobs of *queue* whose kind is in *kinds*, most urgent first.

        Urgent is: by priority, then by time, then by id. Each becomes ``running`` with one attempt
        more, under (*owner*, *claim_seq*). No two calls get the same job. An owner whose lease is
        over gets none. If the answer is lost, `running` tells what was claimed.

        Of a priority that *after* has, only jobs behind its cursor are claimed. No job is added to
        others whose arguments, errors and checkpoints have *bytes_max* bytes already, as the
        storage keeps them; so at least one is claimed if there is any, whatever its size.
        """
        ...

    def insert(self, jobs: Sequence[NewJob], *, connection: object | None = None) -> list[int]:
        """Stores *jobs*, all or none, and returns their ids in order.

        With *connection* it happens in that connection's transaction, which is left open.

        Raises:
            UnknownDependency: a job depends on one that does not exist.
            KeyReused: a job has the key of another one, of another kind or with other arguments.
            InvalidJob: the storage refuses a value.
        """
        ...

    def cancel(self, job_id: int) -> Change:
        """Cancels *job_id*; if it runs, it is marked, and its supervisor ends it.

        Safe to repeat.
        """
        ...

    def retry(self, job_id: int) -> Change:
        """Makes *job_id*, final or scheduled, available at once; `attempt` goes on counting.

        A final one waits again for what it depends on; if that can no longer complete, it is
        ``blocked``.
        """
        ...

    def delete(self, job_id: int) -> Change:
        """Removes *job_id* if it is not running; jobs that wait for it are cancelled."""
        ...

    def update_job_state(self, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        """Applies *outcomes*, each only if (id, attempt, *owner*, claim_seq) still runs the job.

        An outcome that ends a job for others (completed, cancelled) settles its dependents in the
        same transaction; of very many the first, and `settle` the others. Safe to repeat: what was
        applied answers ``duplicate``. ``locked`` means that another transaction holds the row, or a
        dependent of it, and the outcome must be offered again.

        A job that this attempt has completed in a transaction of its own (`Job.complete_tx`), and
        that nobody has begun anew since, stays as it is but for what its row lacks: duration, CPU
        time, memory, pid, output and progress are added, whatever the outcome says of the end. It
        answers ``completed``, and ``duplicate`` when it is offered again.

        Raises:
            InvalidJob: the storage refuses a value that a job left behind; nothing was applied.
        """
        ...

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        """Removes up to *limit* jobs that ended in *state* longer than *retention* ago.

        Returns how many it removed. A completed job that is removed still counts as completed for
        jobs that depend on it, for ever; no other does.
        """
        ...

    def ready(self, job_id: int) -> Change:
        """Lets *job_id* go that was inserted with ``pending=True``."""
        ...

    def get(self, job_ids: Sequence[int]) -> list[JobRow]:
        """Returns the rows of those of *job_ids* that exist, by id."""
        ...

    def jobs(
        self,
        *,
        state: JobState | None,
        queue: str | None,
        kind: str | None,
        limit: int,
        reason: CancelReason | None = None,
        since: dt.datetime | dt.timedelta | None = None,
    ) -> JobList:
        """Returns up to *limit* jobs, newest first, of this *state*, *queue* and *kind*; None: any.

        Of jobs in a final state those that ended last. *reason* asks for cancelled ones; *since*, a
        time or an age, for those that have ended since, or else were inserted since. What can be
        long is left out of them. It may give up where too many do not match, and then says so.
        """
        ...

    def counts(self, queue: str | None = None) -> dict[JobState, int]:
        """Returns how many jobs of *queue* (None: of all) are in each state that occurs."""
        ...

    def summary(self, queue: str | None = None) -> list[KindSummary]:
        """Returns what the jobs of each kind took, in *queue* (None: in all)."""
        ...

    def stage(self, limit: int) -> int:
        """Makes up to *limit* due ``scheduled`` jobs available; returns how many."""
        ...

    def settle(self, limit: int) -> int:
        """Goes on with up to *limit* jobs that ended with very many dependents; returns how many.

        A transaction that ends jobs lets go, or cancels, some thousands of those that wait for them
        at the most; what is left is done by later calls, as many again by each. While the answer is
        not 0 there may be more.
        """
        ...

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        """Returns the running jobs of *owner* that somebody wants cancelled."""
        ...

    def save_progress(self, owner: UUID, found: Sequence[JobProgress]) -> int:
        """Stores what was *found*: progress and checkpoints of *owner*'s running jobs.

        Each by its fence; what is None stays as it is. Returns how many rows it changed; a job
        that is not this claim's any more is left alone.
        """
        ...

    def register_client(self, status: ClientStatus, ttl: dt.timedelta) -> None:
        """Makes a supervisor known by its *status*, and gives it its first lease, for *ttl*.

        Safe to repeat.
        """
        ...

    def report_client(self, status: ClientStatus) -> None:
        """Notes what a supervisor does, its *status*; `stopped`, it never owns a job again."""
        ...

    def heartbeat(self, owner: UUID) -> AbstractContextManager[Heartbeat]:
        """Gives what renews *owner*'s lease, on a connection that nothing else uses."""
        ...

    def leases(self) -> list[Lease]:
        """Returns the leases of the supervisors that may still renew them."""
        ...

    def declare_dead(self, suspects: Sequence[Lease]) -> list[UUID]:
        """Declares *suspects* dead whose lease is over and was not renewed since; says which.

        From then on `Heartbeat.beat` answers None to them, for good.
        """
        ...

    def dead_owners(self) -> list[UUID]:
        """Returns the owners of running jobs that are dead, have stopped, or are not on record."""
        ...

    def rescue(self, dead: Sequence[UUID], limit: int) -> list[Rescued]:
        """Takes up to *limit* running jobs from *dead* owners, charged, with an AttemptError.

        They become available; or cancelled, if that was wanted, if no attempt is left, or as poison
        at the third loss. Two that rescue at once take different jobs.
        """
        ...

    def running(self, owner: UUID) -> list[ClaimedJob]:
        """Returns all running jobs of *owner*; arguments and history are left out."""
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

    def forget_clients(self) -> int:
        """Removes supervisors not seen for 30 days, and stale questions; returns how many."""
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

    def announcements(self, owner: UUID) -> AbstractContextManager[Announcements]:
        """Subscribes to hints for a supervisor: new available jobs, requests to *owner*."""
        ...

    def close(self) -> None:
        """Gives up connections. The storage opens new ones if it is used again."""
        ...
