"""The job that a handler gets, and the nouns of synk.

Glossary, used the same way in Python, SQL, the command line and the docs:

    job            a row of ``synk.job``: a kind, its arguments, and what became of it
    kind           the name that ties a job to the worker that can run it
    queue          a named line that jobs wait in; each has its own caps and limits
    worker         the object with the user's ``work`` method (or the decorated function) for a kind
    client         the object that inserts; with queues and workers, it can also run: a supervisor

    supervisor     the process that claims jobs and hands them to its worker processes
    fork server    the process that imports the user's modules, forks the workers and reaps them
    worker process what runs jobs, one at a time
    slot           one place for a worker process; the process is replaced when it dies
    worker set     a supervisor's worker processes, one in each slot
    recycling      replacing a worker process that has run so many jobs, or grown so large
    status page    shared memory in which a worker process writes what it runs and has done
    progress cell  the part of it that holds what the running job told of itself

    claim          take available jobs for this supervisor: state ``running``, one attempt more
    cursor         where the last claim stopped in a queue; the next one reads on from there
    batch          jobs that go to a worker process together, or outcomes that are written together
    attempt        one claim of a job; numbered from 1, never reused
    fence          (id, attempt, owner, claim_seq): names one claim; stale outcomes are refused
    lease          a supervisor's right to its claims, until a time, renewed by its lease loop
    rescue         take the jobs of a supervisor whose lease ran out, for others to run
    outcome        what became of an attempt, as it is to be written
    acknowledge    (ack) write an outcome into the row, if the fence still holds
    charged        an attempt counts against ``max_attempts`` unless it never really ran
    backoff        the wait before another try, of a job or a loop; jitter keeps those apart
    final          ``completed`` or ``cancelled``: such a job changes only on request
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from synk.attempt import Attempt, checkpoint_text, progress_text
from synk.claim import ClaimedJob, Fence
from synk.errors import ConfigurationError, InvalidValue, LeaseLost
from synk.failure import AttemptError
from synk.row import JobState, Priority, is_whole
from synk.tick_key import tick_of

if TYPE_CHECKING:
    from synk.row import Json
    from synk.storage.completing import Completion

T = TypeVar("T")

_ATTEMPTS: Final = 7

_SNOOZES_MAX: Final = 2**31 - 1
"""A number beyond is no count of synk's."""


def _made_up(args: object) -> ClaimedJob:
    """Returns the claim of a job that is in no table, in a test of its handler."""
    kind = getattr(type(args), "kind", "")
    now_s = dt.datetime.now(dt.UTC).timestamp()
    return ClaimedJob(
        id=1,
        attempt=1,
        kind=kind if isinstance(kind, str) else "",
        priority=Priority.MEDIUM,
        scheduled_at=now_s,
        max_attempts=_ATTEMPTS,
        uncounted=0,
        name="test",
        created_at=now_s,
        attempted_at=now_s,
        args="{}",
        history=None,
    )


def _time(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


class Job(Generic[T]):
    """What a handler gets: its arguments, what the row says of it, and ways to tell how far it is.

    It is a snapshot of the claim, with a property for each fact of it, hence so many. Nothing here
    talks to the database: a worker has no connection.

    To test a handler alone, call it with ``synk.Job(None, args, "me")``: the first attempt of a job
    with the id 1, which no table has.

    Args:
        claimed: the claim that it is of; None: one is made up.
        args: the arguments.
        client_id: the id of the client that claimed it.
        attempt: what it may ask and note while it runs; None: it is told to nobody.

    Attributes:
        args: the arguments, decoded and validated.
    """

    __slots__ = ("_attempt", "_claimed", "_client_id", "_history", "args")

    def __init__(
        self, claimed: ClaimedJob | None, args: T, client_id: str, attempt: Attempt | None = None
    ) -> None:
        self._claimed = _made_up(args) if claimed is None else claimed
        self._client_id = client_id
        self._history: dict[str, Any] | None = None
        self._attempt = Attempt() if attempt is None else attempt
        self.args = args

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.kind!r} attempt {self.attempt}>"

    @property
    def id(self) -> int:
        """The job's id: the same for every attempt, so a good idempotency key for other systems."""
        return self._claimed.id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self._claimed.attempt

    @property
    def kind(self) -> str:
        """The kind, by which the worker was chosen."""
        return self._claimed.kind

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return self._claimed.queue

    @property
    def name(self) -> str:
        """The name given at the insert."""
        return self._claimed.name

    @property
    def priority(self) -> Priority:
        """Its priority."""
        return Priority(self._claimed.priority)

    @property
    def max_attempts(self) -> int:
        """How many charged attempts it has in all."""
        return self._claimed.max_attempts

    @property
    def uncounted(self) -> int:
        """Attempts so far that are not charged."""
        return self._claimed.uncounted

    @property
    def created_at(self) -> dt.datetime:
        """When it was inserted."""
        return _time(self._claimed.created_at)

    @property
    def scheduled_at(self) -> dt.datetime:
        """When it was due."""
        return _time(self._claimed.scheduled_at)

    @property
    def attempted_at(self) -> dt.datetime:
        """When this attempt was claimed."""
        return _time(self._claimed.attempted_at)

    @property
    def state(self) -> JobState:
        """`JobState.RUNNING`."""
        return JobState.RUNNING

    @property
    def attempted_by(self) -> list[str]:
        """The ids of the clients that claimed it, this one last; at most 100."""
        return self._past().get("attempted_by", [self._client_id])

    @property
    def depends_on(self) -> list[int]:
        """The ids of the jobs that had to complete first."""
        return self._past().get("depends_on", [])

    @property
    def tick(self) -> dt.datetime | None:
        """The tick of a periodic job that this one is of, in UTC; None: it is of none.

        It is the time that the schedule says, whenever the job was made or is tried again.
        """
        return tick_of(self._past().get("key"))

    @property
    def tags(self) -> list[str]:
        """The words by which it is found, as it was inserted."""
        return self._past().get("tags") or []

    @property
    def meta(self) -> dict[str, Json]:
        """What was given with the insert, besides the arguments."""
        return self._past().get("meta") or {}

    @property
    def snoozes(self) -> int:
        """How often it has snoozed so far; see `synk.Snooze`."""
        count = self.meta.get("snoozes")
        return count if is_whole(count) and 0 <= count < _SNOOZES_MAX else 0

    @property
    def errors(self) -> list[AttemptError]:
        """The failed attempts before this one, oldest first."""
        return [AttemptError.from_dict(error) for error in self._past().get("errors", [])]

    @property
    def last_checkpoint(self) -> Json:
        """What an earlier attempt gave to `checkpoint` last; None if there is nothing."""
        return self._past().get("checkpoint")

    @property
    def deadline(self) -> dt.datetime | None:
        """When this attempt is killed if it still runs."""
        return self._attempt.deadline

    @property
    def cancelled(self) -> bool:
        """Whether somebody has asked to cancel this job. `JobCancelled` is raised for it too."""
        return self._attempt.cancelled

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Notes how far the job is: for `Client.get`, ``synk job`` and ``synk top``.

        It costs microseconds, so it may be called for each item. The supervisor stores the latest
        about once a second, and what was noted before a kill is stored too.

        Args:
            done: how much is done, in any unit; numpy's numbers and the like are numbers too.
            total: how much there is in all, if known.
            note: a few words; 200 characters are kept.

        It never fails a job: a number that is none, or not finite, is not noted, and the job's
        output says so once.
        """
        try:
            text = progress_text(done, total, note)
        except InvalidValue as error:
            self._attempt.refuse(error)
        else:
            self._attempt.note_progress(text)

    def checkpoint(self, value: object) -> None:
        """Notes where the next attempt may go on, if this one does not end well.

        The next attempt finds the latest as `last_checkpoint`, also if this one is killed.

        Args:
            value: what JSON can hold by the rule in `synk.plain`, at most 64 KiB of it. What cannot
                be noted fails no job: the one before it stays, and the job's output says so once.
        """
        try:
            text = checkpoint_text(value)
        except InvalidValue as error:
            self._attempt.refuse(error)
        else:
            self._attempt.note_checkpoint(text)

    @property
    def fence(self) -> Fence:
        """What names this very attempt, for systems that can refuse an older one."""
        return Fence(self.id, self.attempt, self._claimed.claim_seq)

    def complete_tx(self, connection: Any, result: object = None) -> None:
        """Completes this job in your own transaction on the database that holds it.

        Your writes and the job's end are then one: commit, and both are there, exactly once, also
        if the job runs twice; roll back, and neither is. Commit soon, and return: the job's row is
        locked meanwhile. What the handler returns is ignored then, and so is a failure after the
        commit; what the attempt took, and the end of its output, are added when it is over.

        Args:
            connection: a psycopg connection or cursor, a ``Session`` or ``Connection`` of
                SQLAlchemy, Django's ``connection``, or anything else whose ``execute(sql,
                parameters)`` takes ``%s``; its role needs the rights of a supervisor.
            result: what JSON can hold, kept as the job's result.

        Raises:
            LeaseLost: the job is not this attempt's any more: roll back, somebody else does it.
            InvalidValue: the result is not JSON, or over 64 KiB of it; nothing was stored. Where a
                handler does not catch it, your transaction is yours to roll back, and the job has
                failed for good: a repeat would only fail again.
            ConfigurationError: there is no such connection, or its transaction has failed before;
                or the job's storage is one of your own.
        """
        completion = self._completion(connection, result)
        if completion is not None and not completion.run(connection):
            raise self._lost()

    async def complete_tx_async(self, connection: Any, result: object = None) -> None:
        """See `complete_tx`; for a handler that runs an event loop of its own.

        Args:
            connection: a `psycopg.AsyncConnection` or its cursor, or an ``AsyncSession`` or
                ``AsyncConnection`` of SQLAlchemy.
            result: see `complete_tx`.
        """
        completion = self._completion(connection, result)
        if completion is not None and not await completion.run_awaited(connection):
            raise self._lost()

    def _completion(self, connection: object, result: object) -> Completion | None:
        """Returns what completes this job; None if it has no row, as in a test of its handler."""
        text = None if result is None else checkpoint_text(result, "result").decode()
        schema = self._attempt.schema
        if schema is None:
            if self._attempt.is_by_hand:
                return None
            problem = "cannot complete a job of a storage that is not PostgreSQL: return instead"
            raise ConfigurationError("connection", connection, problem)
        # Most workers have no use for them, and a handler with a connection has loaded the driver.
        from ulid import ULID  # noqa: PLC0415

        from synk.storage.completing import Completion  # noqa: PLC0415

        return Completion(schema, self.fence, ULID.from_str(self._client_id).to_uuid(), text)

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"job {self.id} attempt {self.attempt} is not this worker's any more: roll back"
        )

    def _past(self) -> dict[str, Any]:
        if self._history is None:
            text = self._claimed.history
            self._history = {} if text is None else json.loads(text)
        return self._history or {}
