"""Every exception that the library raises.

    SynkError
    ├── InvalidValue (also a ValueError)      names the field and the value; nothing was stored
    │   ├── ConfigurationError                a client, queue, cleaner or storage set up wrongly
    │   ├── InvalidJob                        a job that cannot be inserted as given
    │   │   ├── UnknownDependency             ``depends_on`` names a job that never was
    │   │   ├── KeyReused                     the ``idempotency_key`` is that of another job
    │   │   └── NotUnique                     another job is in its unique scope
    ├── StorageError                          the database refused or could not be asked
    │   ├── StorageUnavailable                no connection: try again when it is back
    │   │   └── OutcomeUnknown                it went away after an insert was sent
    │   ├── StorageConflict                   gave up on locks, time or a deadlock: try again
    │   └── SchemaMismatch                    migrations are missing, or newer than this code
    ├── PauseNotInForce                       a pause was waited for, and jobs may begin still
    ├── LeaseLost                             the attempt is not this worker's any more
    ├── WorkerStartError                      worker processes cannot be started
    ├── SoftTimeout                           raised in a handler: its soft time limit is over
    ├── JobCancelled                          raised in a handler: somebody cancelled the job
    └── RemoteError                           stands in for an exception class of another process

Messages say what was tried and what to do. A handler's own exceptions are never wrapped in these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ConfigurationError",
    "InvalidJob",
    "InvalidValue",
    "JobCancelled",
    "KeyReused",
    "LeaseLost",
    "NotUnique",
    "OutcomeUnknown",
    "PauseNotInForce",
    "RemoteError",
    "SchemaMismatch",
    "SoftTimeout",
    "StorageConflict",
    "StorageError",
    "StorageUnavailable",
    "SynkError",
    "UnknownDependency",
    "WorkerStartError",
]

_SHOWN_CHARACTERS = 200


class SynkError(Exception):
    """The base of everything that synk raises on its own account."""


class InvalidValue(SynkError, ValueError):
    """A value that synk cannot take, refused before anything was stored.

    Attributes:
        field: the name of the argument, option or column.
        value: what was given.
        problem: what is wrong with it, in words.
    """

    def __init__(self, field: str, value: object, problem: str) -> None:
        self.field = field
        self.value = value
        self.problem = problem
        super().__init__(f"{field}={shown(value)}: {problem}")


class ConfigurationError(InvalidValue):
    """A client, a queue, the cleaner or the storage is set up in a way that cannot work.

    You do *not* get this for a database that is down: that is `StorageUnavailable`.
    """


class InvalidJob(InvalidValue):
    """A job cannot be inserted as given: its name, its arguments or one of its options is wrong."""


class UnknownDependency(InvalidJob):
    """``depends_on`` names a job that does not exist, or the job itself."""


class KeyReused(InvalidJob):
    """The `idempotency_key` is that of another job: of another kind, or with other arguments.

    A field that a new version of their type has added is a difference too. You do *not* get this
    for the same job once more, whatever its name and its other options: then you get its id.

    Attributes:
        job_id: the job that has the key.
    """

    def __init__(self, key: str, job_id: int, problem: str) -> None:
        self.job_id = job_id
        super().__init__("idempotency_key", key, f"is that of job {job_id}, {problem}")


class NotUnique(InvalidJob):
    """Another job is in the scope of this one, see `Unique`, and its insert says that this raises.

    So does one that would replace a job that runs, and is unique until it is finished. You do *not*
    get this from `Client.retry`, which says so by what it returns.

    Attributes:
        job_id: the job that is in the scope.
    """

    def __init__(self, job_id: int, unique: object = None) -> None:
        self.job_id = job_id
        super().__init__("unique", unique, f"job {job_id} is in this scope")


class StorageError(SynkError):
    """The storage refused a statement."""


class StorageUnavailable(StorageError):
    """The database cannot be reached, went away while it was asked, or has no room or no means.

    You do *not* get this in a running supervisor: it waits, with a back-off, and goes on.

    Attributes:
        has_answered: whether it refused, for a reason that passes, and fewer jobs may do.
    """

    has_answered = False


class OutcomeUnknown(StorageUnavailable):
    """The connection broke after an insert was sent: the jobs may be stored, or not.

    Repeating it may store them twice; with an `InsertOptions.idempotency_key` it cannot, and is
    done for you. You do *not* get this where nothing can have been stored.
    """


class StorageConflict(StorageError):
    """The server gave up on a statement: a deadlock, a lock not had in time, or too much to do.

    Nothing was changed; the same statement may succeed later, or with fewer jobs.
    """


class SchemaMismatch(StorageError):
    """The database's schema is not the one that this version of synk works with."""


class PauseNotInForce(SynkError):
    """A queue is paused, but until now not everywhere: jobs of it may begin still.

    It stays paused, and takes force once those that the message names say so, or are gone. Pause it
    again to wait for that.
    """


class LeaseLost(SynkError):
    """The attempt is not this worker's any more: the lease was lost, or the job was cancelled.

    Raised by `Job.complete_tx`: roll back, since somebody else does the work, or has done it.
    """


class WorkerStartError(SynkError):
    """The worker processes cannot be started; the message carries what one of them reported."""


class SoftTimeout(SynkError):
    """Raised in a handler when its soft time limit is over: tidy up, and raise it on.

    It comes between two instructions of Python code in the main thread, so not while C code runs;
    the hard limit holds in any case.
    """


class JobCancelled(SynkError):
    """Raised in a handler when somebody cancels the job: tidy up, and raise it on.

    It comes as `SoftTimeout` does. After the grace period (`cancel_grace`) the process is killed.
    """


class RemoteError(Exception):
    """Stands in for an exception whose class is not rebuilt in this process.

    It is what `AttemptError.as_exception` gives when the remote exception is not a built-in one.
    Not a `SynkError`: it represents an error of a handler.

    Attributes:
        type_name: the remote class, as ``module.Class``.
        message: its text.
    """

    def __init__(self, type_name: str, message: str) -> None:
        self.type_name = type_name
        self.message = message
        super().__init__(f"{type_name}: {message}" if message else type_name)


def shown(value: object, how: Callable[[object], str] = repr) -> str:
    """Returns *value* as a message shows it, at most 200 characters of it. Does not raise."""
    try:
        text = how(value)
    except BaseException as error:  # noqa: BLE001 - a broken __repr__ must not hide the real problem
        text = f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
