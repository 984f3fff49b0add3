"""Who uses synk while `chaos.py` shakes it: producers, and somebody who cancels."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import synk
from chaos_check import Told
from chaos_jobs import WEIGHTS, Act, duration_s
from synk import Change, InsertOptions, Priority

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH_MAX: Final = 10
PRODUCE_S: Final = (0.2, 1.2)
CANCEL_S: Final = (0.2, 1.5)


@dataclass
class Users:
    """Producers and one who cancels, in threads, and what they were told."""

    dsn: str
    seed: int
    inserted: list[int] = field(default_factory=list)
    unknown: int = 0
    cancelled_at: dict[int, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        runs = (self._produce, self._produce, self._cancel)
        self._threads = [
            threading.Thread(target=self._guard, args=(run, random.Random(f"{self.seed} {number}")))
            for number, run in enumerate(runs)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def told(self) -> Told:
        return Told(set(self.inserted), self.unknown, self.cancelled_at)

    def _guard(self, run: Callable[..., None], chance: random.Random) -> None:
        with synk.Client(storage=synk.PostgresStorage(self.dsn)) as client:
            try:
                run(client, chance)
            except Exception as error:  # noqa: BLE001 - told in the report
                self.problems.append(f"a user of synk got {error!r}")

    # -- producing --------------------------------------------------------------------------------

    def _produce(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*PRODUCE_S)):
            has_keys = chance.random() < 0.6
            count = chance.randint(1, BATCH_MAX)
            jobs = [self._new_job(chance, has_keys=has_keys) for _ in range(count)]
            self._insert(client, jobs, has_keys=has_keys)

    def _new_job(self, chance: random.Random, *, has_keys: bool) -> tuple[str, Act, InsertOptions]:
        how = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        args = Act(how, duration_s(how, chance))
        later = datetime.now(UTC) + timedelta(seconds=chance.uniform(0.0, 3.0))
        needed = [chance.choice(self.inserted[-50:])] if self.inserted else []
        options = InsertOptions(
            priority=Priority(chance.randint(1, 4)),
            max_retries=3 if how == "outlive_a_lease" else chance.choice((0, 1, 1, 1, 2)),
            scheduled_at=later if chance.random() < 0.15 else None,
            depends_on=tuple(needed) if chance.random() < 0.2 else (),
            idempotency_key=f"{chance.getrandbits(64):x}" if has_keys else None,
        )
        return how, args, options

    def _insert(self, client: synk.Client, jobs: list[Any], *, has_keys: bool) -> None:
        """Inserts; again and again if no answer comes and that is safe."""
        while True:
            try:
                self.inserted += client.insert_many(jobs)
            except synk.StorageUnavailable:
                if has_keys and not self._stop.wait(0.2):
                    continue
                # Without a key it might be stored twice.
                self.unknown += len(jobs)
            return

    # -- cancelling -------------------------------------------------------------------------------

    def _cancel(self, client: synk.Client, chance: random.Random) -> None:
        while not self._stop.wait(chance.uniform(*CANCEL_S)):
            if not self.inserted:
                continue
            job_id = chance.choice(self.inserted[-20:])
            try:
                answer = client.cancel(job_id)
            except synk.StorageUnavailable:
                continue
            if answer is Change.APPLIED:
                self.cancelled_at[job_id] = time.monotonic()
            elif answer is Change.GONE:
                self.problems.append(f"job {job_id} was inserted and is gone")
