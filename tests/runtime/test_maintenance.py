"""However much there is to clean or to make available, nothing else waits for all of it."""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import Any
from uuid import UUID

from model import ModelStorage
from synk.claim import Fence
from synk.config import CleanerConfig
from synk.row import JobState
from synk.runtime.maintenance import CLEAN_JOBS, STAGE_JOBS, MaintenanceLoop
from synk.telemetry import Telemetry

OWNER = uuid.UUID(int=1)
BATCH_S = 0.2


class Endless(ModelStorage):
    """There is always more to remove and to make available; each batch takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.asked: list[tuple[str, float]] = []

    def _took(self, what: str) -> None:
        self.seconds += BATCH_S
        self.asked.append((what, self.seconds))

    def stage(self, limit: int) -> int:
        self._took("stage")
        return STAGE_JOBS

    def cleaner(self, state: JobState, retention: dt.timedelta, *, limit: int) -> int:
        self._took("clean")
        return CLEAN_JOBS

    def cancel_requests(self, owner: UUID) -> list[Fence]:
        self._took("cancel")
        return []

    def dead_owners(self) -> list[UUID]:
        self._took("rescue")
        return []


def test_nothing_waits_while_very_many_jobs_are_cleaned_and_become_due() -> None:
    storage = Endless()
    engine: Any = None
    loop = MaintenanceLoop(
        storage,
        engine,
        OWNER,
        Telemetry(),
        stage_s=0.5,
        lease_ttl_s=6.0,
        cleaner=CleanerConfig(),
        on_staged=lambda: None,
        clock=lambda: storage.seconds,
    )
    loop._clean_due = 0.0

    for _ in range(50):
        assert loop._pass(storage.seconds), "there is more to do at once"

    for what, longest_s in {"stage": 1.0, "clean": 1.0, "cancel": 2.0, "rescue": 2.5}.items():
        times = [at for asked, at in storage.asked if asked == what]
        gaps = [later - at for at, later in itertools.pairwise(times)]
        assert max(gaps) <= longest_s, what
