"""The two storages side by side: the same jobs, each under a number of its own in both.

Time passes in both when a test says so. The model's clock is set; PostgreSQL's cannot be, so there
every time that is stored moves into the past instead.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import UUID

import psycopg

from support.checking import History, Image, image_of
from support.model import ModelStorage
from synk.claim import ClaimedJob
from synk.errors import SynkError
from synk.insertion import JobOptions, NewJob
from synk.row import JobRow
from synk.storage.base import Storage
from synk.storage.postgres import PostgresStorage
from synk.storage.statements import client_id_of

_AGE_JOBS = """
UPDATE synk.job SET created_at = created_at - %(by)s, scheduled_at = scheduled_at - %(by)s,
    attempted_at = attempted_at - %(by)s, finalized_at = finalized_at - %(by)s,
    cancel_requested_at = cancel_requested_at - %(by)s
"""
_AGE_CLIENTS = """
UPDATE synk.client SET started_at = started_at - %(by)s, seen_at = seen_at - %(by)s,
    lease_until = lease_until - %(by)s, stopped_at = stopped_at - %(by)s, dead_at = dead_at - %(by)s
"""


class Kept(Protocol):
    """A storage under test, and what the contract does not show of it."""

    @property
    def storage(self) -> Storage: ...

    def now(self) -> dt.datetime:
        """Returns the storage's clock."""
        ...

    def claims(self) -> dict[int, tuple[UUID | None, int | None]]:
        """Returns owner and claim_seq of every job."""
        ...

    def age(self, by: dt.timedelta) -> None:
        """Lets time pass."""
        ...


class KeptInModel:
    def __init__(self, storage: ModelStorage | None = None) -> None:
        self.storage = storage or ModelStorage()

    def now(self) -> dt.datetime:
        return self.storage.now

    def claims(self) -> dict[int, tuple[UUID | None, int | None]]:
        entries = self.storage._entries
        return {id: (entry.owner, entry.claim_seq) for id, entry in entries.items()}

    def age(self, by: dt.timedelta) -> None:
        self.storage.now += by


class KeptInPostgres:
    def __init__(self, storage: PostgresStorage, connection: psycopg.Connection) -> None:
        self.storage = storage
        self._connection = connection

    def now(self) -> dt.datetime:
        (now,) = self._connection.execute("SELECT now()").fetchall()[0]
        return now

    def claims(self) -> dict[int, tuple[UUID | None, int | None]]:
        rows = self._connection.execute("SELECT id, owner, claim_seq FROM synk.job").fetchall()
        return {id: (owner, claim_seq) for id, owner, claim_seq in rows}

    def age(self, by: dt.timedelta) -> None:
        for text in (_AGE_JOBS, _AGE_CLIENTS):
            self._connection.execute(text, {"by": by})


class Side:
    """One storage, its jobs by the numbers that both sides share, and their history."""

    def __init__(self, kept: Kept) -> None:
        self.storage = kept.storage
        self._kept = kept
        self.ids: list[int] = []
        self.history = History()
        self.images: dict[int, Image] = {}
        self.rows: dict[int, JobRow] = {}

    # -- numbers ----------------------------------------------------------------------------------

    def number(self, job_id: int) -> int:
        return self.ids.index(job_id)

    def at(self, hours: float) -> dt.datetime:
        """Returns the time in so many hours, by this side's clock."""
        return self._kept.now() + dt.timedelta(hours=hours)

    def insert(self, wanted: Sequence[tuple[str, dict[str, Any]]]) -> list[int]:
        """Inserts jobs of a kind with options; returns their numbers.

        In the options, `depends_on` has numbers, and `scheduled_at` is in hours from now.
        """
        now = self.at(0)
        jobs = [
            NewJob(name="name", kind=kind, args="{}", options=self._options(options, now))
            for kind, options in wanted
        ]
        ids = self.storage.insert(jobs)
        self.ids += [id for id in dict.fromkeys(ids) if id not in self.ids]
        return [self.number(id) for id in ids]

    def _options(self, given: dict[str, Any], now: dt.datetime) -> JobOptions:
        options = dict(given)
        if "scheduled_at" in options:
            options["scheduled_at"] = now + dt.timedelta(hours=options["scheduled_at"])
        needed = tuple(self.ids[number] for number in options.get("depends_on", ()))
        return JobOptions(**{**options, "depends_on": needed})

    # -- looking ----------------------------------------------------------------------------------

    def look(self, *, on_request: bool = False) -> None:
        """Takes in what has changed since the last look."""
        claims = self._kept.claims()
        rows = {self.number(row.id): row for row in self.storage.get(self.ids)}
        images: dict[int, Image] = {}
        for number, row in rows.items():
            owner, claim_seq = claims[row.id]
            images[number] = image_of(row, owner and client_id_of(owner), claim_seq)
        for number in self.images.keys() | images.keys():
            self.history.take(self.images.get(number), images.get(number), on_request=on_request)
        self.images, self.rows = images, rows

    def age(self, by: dt.timedelta) -> None:
        self._kept.age(by)
        self.look()

    def described(self, number: int) -> dict[str, Any]:
        """Returns what both sides must agree on about a row."""
        row = self.rows[number]
        plain = {
            name: getattr(row, name)
            for name in (
                "name", "kind", "queue", "state", "priority", "args", "attempt", "max_attempts",
                "uncounted", "attempted_by", "cancel_reason", "result", "duration", "cpu_time",
                "pid", "host", "crashes", "lost", "idempotency_key", "output", "progress",
                "checkpoint",
            )
        }  # fmt: skip
        times = ("attempted_at", "finalized_at", "cancel_requested_at")
        return {
            **plain,
            "depends_on": [self.number(id) for id in row.depends_on],
            "waiting_on": sorted(self.number(id) for id in row.waiting_on),
            "errors": [(error.attempt, error.cause, error.host) for error in row.errors],
            "owner": (self.images[number].owner, self.images[number].claim_seq),
            **{name: getattr(row, name) is not None for name in times},
        }

    def described_claim(self, job: ClaimedJob) -> dict[str, Any]:
        """Returns what both sides must agree on about a claimed job."""
        history = json.loads(job.history) if job.history else {}
        return {
            "number": self.number(job.id),
            "fields": (
                job.attempt, job.claim_seq, job.kind, job.queue, job.priority, job.max_attempts,
                job.uncounted, job.crashes, job.args,
            ),
            "attempted_by": history.get("attempted_by"),
            "depends_on": [self.number(id) for id in history.get("depends_on", ())],
            "errors": [error["attempt"] for error in history.get("errors", ())],
            "checkpoint": history.get("checkpoint"),
        }  # fmt: skip


def agreed(sides: Sequence[Side], ask: Callable[[Side], Any]) -> Any:
    """Asks each side; returns the answer that all of them must give."""
    answers = [_answer(side, ask) for side in sides]
    assert all(answer == answers[0] for answer in answers), f"the storages disagree: {answers}"
    return answers[0]


def _answer(side: Side, ask: Callable[[Side], Any]) -> Any:
    """Returns what *ask* returns, or the type of what the storage raises."""
    try:
        return ask(side)
    except SynkError as error:
        return type(error)
