"""Unique jobs in the model of the storage: see `synk.storage.uniqueness`."""

from __future__ import annotations

import copy
import datetime as dt
import json
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from synk.errors import ConfigurationError, NotUnique
from synk.row import JobRow, JobState
from synk.unique import Inserted, UniqueScope

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.insertion import NewJob

_FIRST = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


class ModelUniqueness:
    """The part of `ModelStorage` that knows unique jobs."""

    now: dt.datetime
    _entries: dict[int, Any]

    def _call(self) -> AbstractContextManager[None]:
        raise NotImplementedError

    def _insert(self, job: NewJob) -> int:
        raise NotImplementedError

    def _announce_job(self, row: JobRow) -> None:
        raise NotImplementedError

    def _key_of(self, kind: str, args: Any) -> str | None:
        raise NotImplementedError

    def insert_unique(
        self, jobs: Sequence[NewJob], *, connection: object | None = None
    ) -> list[Inserted]:
        if connection is not None:
            raise ConfigurationError("connection", connection, "the model has no connections")
        with self._call():
            before = {id: copy.copy(entry) for id, entry in self._entries.items()}
            try:
                return [self._insert_one(job) for job in jobs]
            except Exception:
                self._entries = before
                raise

    def _insert_one(self, job: NewJob) -> Inserted:
        unique = job.options.unique
        if unique is None:
            return Inserted(self._insert(job))
        begins = None
        if unique.period is not None:
            at = job.options.scheduled_at or self.now
            begins = at - (at - _FIRST) % unique.period
        key = f"{json.dumps(json.loads(job.chosen), sort_keys=True)} {unique.period} {begins}"
        holder = self._in_scope(key)
        if holder is not None:
            return self._meet(holder, job)
        job_id = self._insert(job)
        entry = self._entries[job_id]
        entry.scope = key
        entry.is_in_scope = not entry.row.state.is_final
        said = UniqueScope(
            by=unique.by, until=unique.until, period=unique.period, begins=begins, job_id=None
        )
        entry.change(unique=said)
        return Inserted(job_id)

    def _meet(self, holder: Any, job: NewJob) -> Inserted:
        options = job.options
        assert options.unique is not None
        if options.unique.on_conflict == "raise":
            raise NotUnique(holder.row.id, options.unique)
        if options.unique.on_conflict == "replace":
            if holder.row.state is JobState.RUNNING:
                raise NotUnique(holder.row.id)
            at = options.scheduled_at or self.now
            state = JobState.SCHEDULED if at > self.now else JobState.AVAILABLE
            if holder.row.state is JobState.PENDING:
                state = JobState.PENDING
            args = json.loads(job.args)
            holder.limit_key = self._key_of(job.kind, args)
            holder.change(args=args, scheduled_at=at, priority=options.priority, state=state)
            self._announce_job(holder.row)
        return Inserted.of(holder.row.id, existed=True)

    def _is_kept_out(self, entry: Any) -> bool:
        """Whether a job that is over cannot begin anew."""
        return bool(entry.scope) and self._in_scope(entry.scope) is not None

    def _in_scope(self, key: str) -> Any | None:
        entries = self._entries.values()
        return next((each for each in entries if each.is_in_scope and each.scope == key), None)
