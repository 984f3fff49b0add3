"""Who uses synk while the chaos shakes it: processes that insert, and cancel some of it again.

    SYNK_DATABASE_URL=... python -m chaos.users SEED NUMBER

Each works until its input ends, and then says what it was told.
"""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import synk
from chaos.bounds import LIMITED, PAUSED, SINGLE, TENANTS, Pause
from chaos.check import Told
from chaos.jobs import WEIGHTS, Act, duration_s
from synk import Change, InsertOptions, Priority
from synk.storage.connecting import DSN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable

USERS: Final = 2
BATCH_MAX: Final = 10
PRODUCE_S: Final = (0.2, 1.2)
QUEUES: Final = {"default": 12, LIMITED: 4, SINGLE: 2, PAUSED: 2}
"""How often jobs are of which queue, in relation to each other."""
UNIQUE: Final = synk.Unique(by=("args.tenant", "queue"), until="finished")
PAUSES_S: Final = (1.0, 4.0)
PAUSE_WAIT_S: Final = 20.0
"""Longer than a lease: a supervisor that stands still is waited for."""
CANCEL_S: Final = (0.2, 1.5)


class Users:
    """The processes, and in the end what they were told, all together."""

    def __init__(self, dsn: str, seed: int) -> None:
        self.inserted: set[int] = set()
        self.unknown = 0
        self.repeated = 0
        self.cancelled_at: dict[int, float] = {}
        self.pauses: list[Pause] = []
        self.problems: list[str] = []
        own_input, self._open_input = os.pipe()
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "chaos.users", str(seed), str(number)],
                cwd=Path(__file__).parents[1],
                env={**os.environ, DSN_VARIABLE: dsn},
                stdin=own_input,
                stdout=subprocess.PIPE,
            )
            for number in range(USERS)
        ]
        os.close(own_input)

    def stop(self) -> None:
        os.close(self._open_input)
        for process in self._processes:
            answer, _ = process.communicate()
            self._take(User(**json.loads(answer)))

    def _take(self, user: User) -> None:
        self.inserted.update(user.inserted)
        self.unknown += user.unknown
        self.repeated += user.repeated
        self.cancelled_at.update(user.cancelled_at)
        self.pauses += [Pause(*each) for each in user.pauses]
        self.problems += user.problems

    def told(self) -> Told:
        return Told(self.inserted, self.unknown, self.cancelled_at, self.pauses)


@dataclass
class User:
    """What one of them was told."""

    inserted: list[int] = field(default_factory=list)
    unknown: int = 0
    """Jobs without keys whose insert got no answer."""
    repeated: int = 0
    """Inserts that got none even when synk had repeated them, and were repeated again."""
    cancelled_at: list[tuple[int, float]] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the queue was paused for certain."""
    problems: list[str] = field(default_factory=list)


class Work:
    """What one of them does: it produces, cancels and pauses, each in a thread of its own."""

    def __init__(self, seed: str, number: str) -> None:
        self.user = User()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._guard, args=(run, random.Random(f"{seed} {number} {run.__name__}"))
            )
            for run in (self._produce, self._cancel, *([self._pause] if number == "0" else []))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _guard(self, run: Callable[..., None], chance: random.Random) -> None:
        with synk.Client(storage=synk.PostgresStorage()) as client:
            try:
                run(client, chance)
            except Exception as error:  # noqa: BLE001 - told in the report
                self.user.problems.append(f"a user of synk got {error!r}")

    # -- producing --------------------------------------------------------------------------------

    def _produce(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*PRODUCE_S)):
            has_keys = chance.random() < 0.6
            count = chance.randint(1, BATCH_MAX)
            queue = chance.choices(list(QUEUES), list(QUEUES.values()))[0]
            if queue == SINGLE:
                self._insert_single(client, chance)
                continue
            jobs = [self._new_job(chance, queue, has_keys=has_keys) for _ in range(count)]
            self._insert(client, jobs, has_keys=has_keys)

    def _insert_single(self, client: synk.Client, chance: random.Random) -> None:
        """Inserts a job whose tenant has none; safe to repeat."""
        tenant = chance.randrange(TENANTS)
        args = Act("take_a_while", chance.uniform(0.0, 1.0), tenant)
        options = InsertOptions(queue=SINGLE, unique=UNIQUE, max_retries=2)
        while not self._stop.is_set():
            try:
                self.user.inserted.append(client.insert("take_a_while", args, options))
            except synk.StorageUnavailable:
                self.user.repeated += 1
                self._stop.wait(0.2)
            else:
                return
        self.user.unknown += 1

    def _new_job(
        self, chance: random.Random, queue: str, *, has_keys: bool
    ) -> tuple[str, Act, InsertOptions]:
        how = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        args = Act(how, duration_s(how, chance), chance.randrange(TENANTS))
        later = datetime.now(UTC) + timedelta(seconds=chance.uniform(0.0, 3.0))
        known = self.user.inserted[-50:]
        needed = [chance.choice(known)] if known else []
        options = InsertOptions(
            priority=Priority(chance.randint(1, 4)),
            max_retries=3 if how == "outlive_a_lease" else chance.choice((0, 1, 1, 1, 2)),
            scheduled_at=later if chance.random() < 0.15 else None,
            depends_on=tuple(needed) if chance.random() < 0.2 else (),
            idempotency_key=f"{chance.getrandbits(64):x}" if has_keys else None,
            queue=queue,
        )
        return how, args, options

    def _insert(self, client: synk.Client, jobs: list[Any], *, has_keys: bool) -> None:
        """Inserts; again and again if no answer comes and that is safe."""
        while True:
            try:
                self.user.inserted += client.insert_many(jobs)
            except synk.StorageUnavailable:  # OutcomeUnknown too
                if has_keys and not self._stop.wait(0.2):
                    self.user.repeated += 1
                    continue
                # Without a key it might be stored twice.
                self.user.unknown += len(jobs)
            return

    # -- pausing ----------------------------------------------------------------------------------

    def _pause(self, client: synk.Client, chance: random.Random) -> None:
        wait = timedelta(seconds=PAUSE_WAIT_S)
        while not self._stop.wait(chance.uniform(*PAUSES_S)):
            began = None
            try:
                client.queues.pause(PAUSED, wait=wait)
                began = time.monotonic()
                self._stop.wait(chance.uniform(*PAUSES_S))
            except (synk.StorageError, synk.PauseNotInForce):
                pass
            ended = time.monotonic()
            self._resume(client)
            if began is not None:
                self.user.pauses.append((began, ended))

    def _resume(self, client: synk.Client) -> None:
        """Also when all is over: what waits in the queue must come to its end."""
        while True:
            try:
                client.queues.resume(PAUSED)
            except synk.StorageError:
                time.sleep(0.2)
            else:
                return

    # -- cancelling -------------------------------------------------------------------------------

    def _cancel(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*CANCEL_S)):
            if not self.user.inserted:
                continue
            job_id = chance.choice(self.user.inserted[-20:])
            try:
                answer = client.cancel(job_id)
            except synk.StorageUnavailable:
                continue
            if answer is Change.APPLIED:
                self.user.cancelled_at.append((job_id, time.monotonic()))
            elif answer is Change.GONE:
                self.user.problems.append(f"job {job_id} was inserted and is gone")


def main() -> None:
    # What the pools of connections say of each connection that breaks.
    logging.getLogger("psycopg.pool").disabled = True
    work = Work(*sys.argv[1:])
    sys.stdin.read()
    work.stop()
    json.dump(asdict(work.user), sys.stdout)


if __name__ == "__main__":
    main()
