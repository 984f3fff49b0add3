"""What a client does to jobs that are there: one by its id, or many by a filter.

Each verb checks what it is given and asks the storage once; the rules are the table's.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import TYPE_CHECKING, Any

from synk.bulk import check_limit, check_selective
from synk.errors import ConfigurationError
from synk.row import check_id
from synk.storage.bulking import check_bulking
from synk.storage.inspection import Inspection
from synk.waits import StackWait

if TYPE_CHECKING:
    from synk.bulk import Changes, Found, JobFilter
    from synk.row import Change, JobRow
    from synk.storage.bulking import Progress, Verb


class JobVerbs:
    """The verbs of a `Client`."""

    storage: Any
    """A `Storage`, which may also be what some of the verbs ask for."""

    def cancel(self, job_id: int) -> Change:
        """Cancels the job *job_id*, running or not; says if it is done, requested, or was too late.

        In a job that runs `JobCancelled` is raised, and after `cancel_grace` it is killed, unless
        it completes before. It is ``cancelled`` once nothing that it started is left.

        Raises:
            InvalidJob: *job_id* is no id.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self.storage.cancel(check_id("job_id", job_id))

    def retry(self, job_id: int) -> Change:
        """Makes *job_id*, finished or scheduled, available at once, with at least one more attempt.

        Raises:
            InvalidJob: *job_id* is no id.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self.storage.retry(check_id("job_id", job_id))

    def delete(self, job_id: int) -> Change:
        """Removes the job *job_id* if it is not running. Jobs that wait for it are cancelled.

        Raises:
            InvalidJob: *job_id* is no id.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self.storage.delete(check_id("job_id", job_id))

    def ready(self, job_id: int) -> Change:
        """Lets the job *job_id* go that was inserted with ``pending=True``.

        Raises:
            InvalidJob: *job_id* is no id.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self.storage.ready(check_id("job_id", job_id))

    def count(self, wanted: JobFilter) -> Found:
        """Counts the jobs that a filter means, up to 100,000; gives the filter for those.

        Args:
            wanted: which jobs.

        Raises:
            ConfigurationError: the storage is one of your own, which cannot do this.
            InvalidValue: *wanted* says nothing, which would mean every job.
            StorageError: the database could not be reached, or gave up on it.
        """
        return check_bulking(self.storage).count_many(check_selective(wanted))

    def retry_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """Does `retry` to all jobs that a filter means and that are there now.

        A thousand of them are a transaction, so that neither claims nor inserts wait, and what is
        done stays done however this ends. A job that somebody else has locked is skipped.

        Args:
            wanted: which jobs; that of `count` means those that it counted.
            limit: no more than so many; None: all.
            progress: called after each transaction with what became of them so far; what it raises
                ends the work there.

        Raises:
            ConfigurationError: the storage is one of your own, which cannot do this.
            InvalidValue: *wanted* says nothing, which would mean every job, or *limit* is below 1.
            StorageError: the database could not be reached, or gave up on it; what *progress* was
                told of is done.
        """
        return self._change_many("retry_many", wanted, limit, progress)

    def cancel_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """Does `cancel` to all jobs that a filter means and that are there now; see `retry_many`.

        Args:
            wanted: which jobs.
            limit: no more than so many; None: all.
            progress: called after each transaction.

        Raises:
            ConfigurationError: as in `retry_many`.
            InvalidValue: as in `retry_many`.
            StorageError: as in `retry_many`.
        """
        return self._change_many("cancel_many", wanted, limit, progress)

    def delete_many(
        self, wanted: JobFilter, *, limit: int | None = None, progress: Progress | None = None
    ) -> Changes:
        """Does `delete` to all jobs that a filter means and that are there now; see `retry_many`.

        Args:
            wanted: which jobs.
            limit: no more than so many; None: all.
            progress: called after each transaction.

        Raises:
            ConfigurationError: as in `retry_many`.
            InvalidValue: as in `retry_many`.
            StorageError: as in `retry_many`.
        """
        return self._change_many("delete_many", wanted, limit, progress)

    def _change_many(
        self, verb: Verb, wanted: JobFilter, limit: int | None, progress: Progress | None
    ) -> Changes:
        check_selective(wanted)
        check_limit(limit)
        storage = check_bulking(self.storage)
        return storage.change_many(verb, wanted, limit=limit, progress=progress)

    def get(self, job_id: int) -> JobRow | None:
        """Returns the row of the job *job_id*, or None if there is none.

        Raises:
            InvalidJob: *job_id* is no id.
            StorageError: the database could not be reached, or gave up on it.
        """
        return next(iter(self.storage.get([check_id("job_id", job_id)])), None)

    def stack(self, job_id: int, timeout: dt.timedelta = dt.timedelta(seconds=15)) -> str | None:
        """Returns where a running job is in its Python code now, or None if it does not run.

        Its supervisor reads it with py-spy where that is installed, which disturbs nothing. Else a
        signal asks the job itself, which tells it between two instructions; in C code that waits
        for something the signal may end the wait.

        Args:
            job_id: the job.
            timeout: how long to wait for the supervisor's answer; 15 s by default.

        Raises:
            ConfigurationError: *timeout* is no timedelta, or below zero; or the storage is one of
                your own, by which nobody can be asked.
            InvalidJob: *job_id* is no id.
            StorageUnavailable: no answer came in time: the supervisor may be gone.
        """
        waiting = StackWait(check_id("job_id", job_id), timeout)
        if not isinstance(self.storage, Inspection):
            raise ConfigurationError("storage", self.storage, "has no way to ask where a job is")
        question = self.storage.ask_stack(job_id)
        if question is None:
            return None
        while (answer := self.storage.stack_answer(question)) is None:
            time.sleep(waiting.pause_s())
        return answer
