"""The Storage contract, in words: what a client and a supervisor ask of the database.

`PostgresStorage` is synk's own. A storage of one's own needs the methods of `Storage` and nothing
else; whether it keeps the contract is told by the conformance suite in `synk.testing`. Jobs are
inserted, changed and run with it as with synk's own. What shows them to people is not part of it,
but of `synk.storage.inspection`, and PostgreSQL's alone: without that, `Client.stack` raises
ConfigurationError, a supervisor says nothing of kinds that nobody knows, and the commands, all but
``synk start``, know PostgreSQL only. Nor can a job of such a storage end by `Job.complete_tx`,
which raises ConfigurationError then.

Guarantees expected of every implementation:

* each method is one transaction, durable when it returns, unless it is given a connection;
* times are the storage's own clock; a caller only ever sends durations or a user's times;
* methods may be called from several threads at once.

Errors: `StorageUnavailable` when the storage cannot be asked (nothing is known about what it did),
`StorageError` when it refused, `InvalidJob` when a job is not acceptable.

Eight names are the original's. Where each is asked, and what PostgreSQL runs for it; of all others
the statement, and the file in ``sql/``, has the name of the method:

name                asked by                   runs
------------------  -------------------------  ----------------------------------------------------
ping                Supervisor.run             hidden.sql, and what `migration_version` asks
get_job_available   ClaimLoop                  claim.sql
insert              Client.insert, insert_tx   insert.sql
                    Client.insert_many         insert_many.sql, insert_many_once.sql,
                                               insert_full.sql, also for one
cancel              Client.cancel              cancel.sql
retry               Client.retry               retry.sql
delete              Client.delete              delete.sql
update_job_state    AckLoop                    ack_plain.sql, ack.sql, ack_answers.sql, account.sql,
                                               check_values.sql
cleaner             MaintenanceLoop            cleaner.sql
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
    from synk.row import Change, JobRow, JobState
    from synk.status import Beat, ClientStatus, JobProgress, Lease, Rescued


@dataclass(frozen=True, slots=True)
class Hints:
    """What was announced; false if nothing was.

    Attributes:
        queues: there are new jobs in these.
        requests: whether running jobs are to be cancelled, or asked where they are.
        settings: whether settings were changed.
    """

    queues: frozenset[str] = frozenset()
    requests: bool = False
    settings: bool = False

    def __bool__(self) -> bool:
        return bool(self.queues) or self.requests or self.settings


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

    So many, in one class: a client and the loops of a supervisor share one store.

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

        Of PostgreSQL only: a job that this attempt has completed in a transaction of its own
        (`Job.complete_tx`), and that nobody has begun anew since, stays as it is but for what its
        row lacks: duration, CPU time, memory, pid, output and progress are added, whatever the
        outcome says of the end. It answers ``completed``, and ``duplicate`` when offered again.

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

    def forget_clients(self) -> int:
        """Removes supervisors not seen for 30 days, and stale questions; returns how many."""
        ...

    def announcements(self, owner: UUID) -> AbstractContextManager[Announcements]:
        """Subscribes to hints for a supervisor: new available jobs, requests to *owner*."""
        ...

    def close(self) -> None:
        """Gives up connections. The storage opens new ones if it is used again."""
        ...
