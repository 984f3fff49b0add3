"""Storages with one promise broken each: what looks for broken promises must find these."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from msgspec import structs

from support.model import ModelStorage
from synk.claim import AckAnswer, ClaimedJob, Outcome
from synk.limit import Permit
from synk.status import Lease
from synk.storage.scheduling import Taken, TickSwap


class TakesTicksOfNow(ModelStorage):
    """Whoever found a tick due is believed, whatever others have done about it since."""

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        kept = self._schedules.get(swap.name)
        if kept is None:
            return None
        now = kept.schedule
        return super().take_ticks(dataclasses.replace(swap, was=now.next_at, version=now.version))


class TakesTicksWhilePaused(ModelStorage):
    """That it is paused is asked when it is found due, and not when its tick is taken."""

    def take_ticks(self, swap: TickSwap) -> Taken | None:
        kept = self._schedules.get(swap.name)
        if kept is None or kept.schedule.paused_at is None:
            return super().take_ticks(swap)
        paused = kept.schedule
        kept.schedule = dataclasses.replace(paused, paused_at=None)
        taken = super().take_ticks(dataclasses.replace(swap, version=paused.version))
        kept.schedule = dataclasses.replace(kept.schedule, paused_at=paused.paused_at)
        return taken


class FreesWhatWasTakenSince(ModelStorage):
    """Whoever has a permit is believed to mean this taking of it when it gives it back."""

    def release_permits(self, owner: UUID, permits: Sequence[Permit]) -> int:
        meant = {permit.place for permit in permits}
        mine = [permit for permit in self.permits(owner) if permit.place in meant]
        return super().release_permits(owner, mine)


class AcksById(ModelStorage):
    """As many queues do: whoever says that a job is done is believed."""

    def _acknowledge(self, owner: UUID, outcome: Outcome) -> AckAnswer:
        entry = self._entries.get(outcome.id)
        if entry is None or entry.owner is None or entry.claim_seq is None:
            return super()._acknowledge(owner, outcome)
        held = structs.replace(outcome, attempt=entry.row.attempt, claim_seq=entry.claim_seq)
        return super()._acknowledge(entry.owner, held)


class IgnoresTheOwner(ModelStorage):
    def _acknowledge(self, owner: UUID, outcome: Outcome) -> AckAnswer:
        entry = self._entries.get(outcome.id)
        known = None if entry is None else entry.owner
        return super()._acknowledge(known or owner, outcome)


class IgnoresTheClaim(ModelStorage):
    """The number of the attempt is all that it compares."""

    def _acknowledge(self, owner: UUID, outcome: Outcome) -> AckAnswer:
        entry = self._entries.get(outcome.id)
        known = None if entry is None else entry.claim_seq
        return super()._acknowledge(
            owner, structs.replace(outcome, claim_seq=known or outcome.claim_seq)
        )


class IgnoresTheLease(ModelStorage):
    """Gives jobs to whoever asks, as long as nobody has declared that one dead."""

    def get_job_available(self, *args: Any, owner: UUID, **options: Any) -> list[ClaimedJob]:
        lease = self._leases.get(owner)
        if lease is not None:
            lease.until = max(lease.until, self.now + timedelta(seconds=1))
        return super().get_job_available(*args, owner=owner, **options)


class DeclaresTheLivingDead(ModelStorage):
    def declare_dead(self, suspects: Sequence[Lease]) -> list[UUID]:
        dead = [suspect.owner for suspect in suspects if suspect.owner in self._leases]
        for owner in dead:
            del self._leases[owner]
        return dead


class RescuesTheLiving(ModelStorage):
    """Takes whatever has run for a while, as rescuers by time do."""

    def dead_owners(self) -> list[UUID]:
        return sorted({entry.owner for entry in self._entries.values() if entry.owner is not None})


STORAGES = [
    AcksById,
    IgnoresTheOwner,
    IgnoresTheClaim,
    IgnoresTheLease,
    DeclaresTheLivingDead,
    RescuesTheLiving,
]


class LetsRetriesIn(ModelStorage):
    """Looks at a unique scope when a job is inserted, and never again."""

    def _is_kept_out(self, entry: Any) -> bool:
        return False


class ForgetsWhatRuns(ModelStorage):
    """Keeps a job in its unique scope only while it waits, whatever it was inserted with."""

    def _in_scope(self, key: str) -> Any | None:
        holder = super()._in_scope(key)
        return None if holder is None or holder.owner is not None else holder


WITH_UNIQUE_JOBS = [LetsRetriesIn, ForgetsWhatRuns]
SCHEDULERS = [TakesTicksOfNow, TakesTicksWhilePaused]
"""Of which only periodic jobs suffer."""
