"""What the tests of a storage make their jobs and claims with."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any, Final

from synk.claim import AckAnswer, Outcome
from synk.failure import AttemptError
from synk.insertion import InsertOptions, JobOptions, NewJob
from synk.row import JobState, Priority
from synk.status import ClientStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from synk.claim import ClaimCursor, ClaimedJob
    from synk.row import JobRow
    from synk.storage.base import Storage


PAST: Final = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
FUTURE: Final = dt.datetime(2101, 1, 1, tzinfo=dt.UTC)
NOW: Final = dt.timedelta(0)
AN_HOUR: Final = dt.timedelta(hours=1)
OWNER: Final = uuid.UUID("0193c5b0-0000-7000-8000-000000000001")
OTHER: Final = uuid.UUID("0193c5b0-0000-7000-8000-000000000002")
NO_JOB: Final = 999_999_999
CHAIN_LENGTH: Final = 300
WAITING: Final = (JobState.AVAILABLE, JobState.SCHEDULED, JobState.PENDING)


def new_job(
    *,
    name: str = "name",
    kind: str = "kind",
    args: str = "{}",
    options: InsertOptions | None = None,
) -> NewJob:
    """Returns a job to insert."""
    complete = (options or InsertOptions()).over(JobOptions())
    unique = complete.unique
    chosen = "" if unique is None else unique.chosen(kind, complete.queue, args)
    return NewJob(name=name, kind=kind, args=args, options=complete, chosen=chosen)


def insert(
    storage: Storage,
    options: InsertOptions | None = None,
    *,
    name: str = "name",
    kind: str = "kind",
    args: str = "{}",
    **changed: Any,
) -> int:
    """Inserts one job, with the options in *changed*; returns its id."""
    options = options or InsertOptions(**changed)
    return storage.insert([new_job(name=name, kind=kind, args=args, options=options)])[0]


def get(storage: Storage, job_id: int) -> JobRow:
    """Returns the row of one job, which must exist."""
    (row,) = storage.get([job_id])
    return row


def state_of(storage: Storage, job_id: int) -> JobState:
    """Returns the state of one job, which must exist."""
    return get(storage, job_id).state


def register(storage: Storage, owner: uuid.UUID, ttl: dt.timedelta = AN_HOUR) -> None:
    """Makes a supervisor known, with a lease for *ttl*."""
    storage.register_client(status_of(owner), ttl)


def status_of(owner: uuid.UUID, **changed: Any) -> ClientStatus:
    """Returns what a supervisor says of itself."""
    fields: dict[str, Any] = {
        "id": owner,
        "host": f"host of {str(owner)[-1]}",
        "pid": 123,
        "version": "1.2.3",
        "processes": 2,
        "queues": ("default", "slow"),
    }
    return ClientStatus(**{**fields, **changed})


def claim(
    storage: Storage,
    limit: int = 100,
    *,
    owner: uuid.UUID = OWNER,
    seq: int = 1,
    kinds: Sequence[str] = ("kind",),
    after: Mapping[int, ClaimCursor] | None = None,
    bytes_max: int | None = None,
) -> list[ClaimedJob]:
    """Claims from the default queue, for an owner that has its lease."""
    register(storage, owner)
    return storage.get_job_available(
        "default", limit, kinds=kinds, owner=owner, claim_seq=seq, after=after, bytes_max=bytes_max
    )


def begun(
    storage: Storage, *, owner: uuid.UUID = OWNER, seq: int = 1, **changed: Any
) -> ClaimedJob:
    """Inserts a job, with the options in *changed*, and claims it: nothing else must wait."""
    insert(storage, **changed)
    return claim(storage, owner=owner, seq=seq)[0]


def outcome_of(job: ClaimedJob, state: JobState = JobState.COMPLETED, **changed: Any) -> Outcome:
    """Returns an outcome for *job*."""
    return Outcome(job.id, job.attempt, job.claim_seq, state=state, **changed)


def acknowledge(
    storage: Storage,
    job: ClaimedJob,
    *,
    owner: uuid.UUID = OWNER,
    state: JobState = JobState.COMPLETED,
    **changed: Any,
) -> AckAnswer:
    """Acknowledges one job."""
    (answer,) = storage.update_job_state(owner, [outcome_of(job, state, **changed)])
    return answer


def release(storage: Storage, job: ClaimedJob, *, owner: uuid.UUID = OWNER) -> AckAnswer:
    """Gives a claimed job back, uncharged."""
    return acknowledge(storage, job, owner=owner, state=JobState.AVAILABLE, uncharged=True)


def snooze(storage: Storage, job: ClaimedJob, *, delay_s: float, **changed: Any) -> AckAnswer:
    """Acknowledges an attempt as `OWNER` whose job is to run again after a while."""
    state = JobState.SCHEDULED if delay_s else JobState.AVAILABLE
    return acknowledge(storage, job, state=state, uncharged=True, retry_in_s=delay_s, **changed)


def fail(
    storage: Storage, job: ClaimedJob, *, state: JobState = JobState.SCHEDULED, **changed: Any
) -> AckAnswer:
    """Acknowledges a failed attempt as `OWNER`."""
    error = AttemptError(attempt=job.attempt, error=f"ValueError: {job.attempt}").to_json()
    return acknowledge(storage, job, state=state, error=error, **changed)


def job_in(storage: Storage, state: JobState) -> int:
    """Makes a job in *state*; returns its id."""
    match state:
        case JobState.AVAILABLE:
            return insert(storage, kind="left alone")
        case JobState.SCHEDULED:
            return insert(storage, scheduled_at=FUTURE)
        case JobState.PENDING:
            return insert(storage, pending=True)
        case JobState.CANCELLED:
            job_id = insert(storage)
            storage.cancel(job_id)
            return job_id
        case JobState.RUNNING | JobState.COMPLETED:
            job_id = insert(storage, priority=Priority.CRITICAL, scheduled_at=PAST)
            (job,) = claim(storage, 1)
            if state is JobState.COMPLETED:
                acknowledge(storage, job, result="1")
            return job_id


def raised(call: Callable[[], object]) -> Exception | None:
    """Returns what *call* raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the caller looks at it
        return error
    return None
