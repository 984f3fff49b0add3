"""The part of the model that knows keys of limits: see `synk.storage.limiting`."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from synk.limit import KeyedClaim, Permit, cap_of
from synk.row import JobState, Priority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimedJob, Fence
    from synk.limit import Cap, KeyedCursor, Limit

KEYS_A_CLAIM: Final = 64


class LimitingModel:
    """What `ModelStorage` has of it; rates are left out.

    `keys_of` has, by the kind of jobs, what their keys are: a name, and what of the arguments.
    """

    def __init__(self) -> None:
        self.keys_of: dict[str, Limit] = {}
        self._permits: dict[tuple[str, int], tuple[UUID, int]] = {}
        """Whose each permit is, and by which claim."""

    def _key_of(self, kind: str, args: Any, limit: Limit | None = None) -> str | None:
        limit = limit or self.keys_of.get(kind)
        if limit is None:
            return None
        if limit.key is None:
            return limit.name
        for name in limit.path:
            args = args[name]
        return f"{limit.name}:{args}"

    def claim_keyed(
        self: Any,
        queue: str,
        limit: int,
        *,
        kinds: Sequence[str],
        owner: UUID,
        claim_seq: int,
        caps: Mapping[str, Cap],
        held: Mapping[str, int] | None = None,
        per_permit: int = 1,
        after: KeyedCursor | None = None,
        bytes_max: int | None = None,
    ) -> KeyedClaim:
        with self._call():
            lease = self._leases.get(owner)
            if lease is None or lease.until <= self.now:
                return KeyedClaim(next=after or {})
            claim = _Claim(self, limit, owner, claim_seq, caps, dict(held or {}), per_permit)
            cursors = dict(after or {})
            for priority in Priority:
                claim.take(self._due(queue, kinds, priority), priority, cursors)
            found = sorted(
                zip(claim.jobs, claim.keys, strict=True),
                key=lambda each: (each[0].priority, each[0].scheduled_at, each[0].id),
            )
            return KeyedClaim(
                jobs=[job for job, _ in found],
                keys=[key for _, key in found],
                permits=claim.permits,
                next=cursors,
                is_cut=claim.is_cut,
            )

    def _due(self: Any, queue: str, kinds: Sequence[str], priority: Priority) -> dict[str, Any]:
        """Returns what of a queue is due, by key, in order."""
        by_key: dict[str, Any] = defaultdict(list)
        for entry in sorted(
            self._in_state(JobState.AVAILABLE), key=lambda e: (e.row.scheduled_at, e.row.id)
        ):
            row = entry.row
            is_meant = (row.queue, row.priority) == (queue, priority) and row.kind in kinds
            if is_meant and entry.limit_key is not None and row.scheduled_at <= self.now:
                by_key[entry.limit_key].append(entry)
        return by_key

    def release_permits(self: Any, owner: UUID, permits: Sequence[Permit]) -> int:
        with self._call():
            mine = [
                permit
                for permit in set(permits)
                if self._permits.get(permit.place) == (owner, permit.claim_seq)
            ]
            for permit in mine:
                del self._permits[permit.place]
            return len(mine)

    def permits(self: Any, owner: UUID) -> list[Permit]:
        with self._call():
            return [
                Permit(key, slot, claim_seq)
                for (key, slot), (holder, claim_seq) in sorted(self._permits.items())
                if holder == owner
            ]

    @property
    def held_permits(self) -> list[Permit]:
        """All that anybody has."""
        return [Permit(key, slot, seq) for (key, slot), (_, seq) in sorted(self._permits.items())]

    def key_jobs(
        self: Any, owner: UUID, fences: Sequence[Fence], limits: Sequence[Limit]
    ) -> list[int]:
        with self._call():
            keyed: list[int] = []
            for fence, limit in zip(fences, limits, strict=True):
                entry = self._entries.get(fence.id)
                if entry is None or (entry.owner, entry.row.attempt, entry.claim_seq) != (
                    owner,
                    fence.attempt,
                    fence.claim_seq,
                ):
                    continue
                args = entry.row.args
                for name in limit.path:
                    args = args[name]
                entry.limit_key = limit.name if limit.key is None else f"{limit.name}:{args}"
                entry.let_go(uncounted=entry.row.uncounted + 1)
                self._end_attempt(entry, JobState.AVAILABLE, None)
                keyed.append(fence.id)
            return keyed

    def _drop_permits(self, owners: Sequence[UUID]) -> None:
        for place in [place for place, (owner, _) in self._permits.items() if owner in owners]:
            del self._permits[place]


class _Claim:
    def __init__(
        self,
        storage: Any,
        limit: int,
        owner: UUID,
        claim_seq: int,
        caps: Mapping[str, Cap],
        held: dict[str, int],
        per_permit: int,
    ) -> None:
        self.jobs: list[ClaimedJob] = []
        self.keys: list[str] = []
        self.permits: list[Permit] = []
        self.is_cut = False
        self._storage = storage
        self._limit = limit
        self._owner = owner
        self._claim_seq = claim_seq
        self._caps = caps
        self._held = held
        self._per_permit = per_permit

    def take(self, by_key: dict[str, Any], priority: int, cursors: dict[int, str]) -> None:
        """Takes jobs of one priority, the keys in turns."""
        after = cursors.get(priority, "")
        names = sorted(by_key, key=lambda name: (name <= after, name))
        for place, name in enumerate(names):
            left = self._limit - len(self.jobs)
            if left <= 0 or place >= KEYS_A_CLAIM:
                self.is_cut = True
                return
            share = -(-self._limit // min(len(names), KEYS_A_CLAIM))
            self._take_of(name, by_key[name][: min(left, share)])
            cursors[priority] = name

    def _take_of(self, key: str, entries: list[Any]) -> None:
        running = cap_of(key, self._caps).running
        if running is not None:
            entries = entries[: self._let(key, len(entries), running) * self._per_permit]
        for entry in entries:
            self.jobs.append(self._storage._claim(entry, self._owner, self._claim_seq))
            self.keys.append(key)

    def _let(self, key: str, jobs: int, running: int) -> int:
        """Returns under how many permits *jobs* jobs begin; takes those that are not there."""
        permits = self._storage._permits
        wanted = -(-jobs // self._per_permit)
        of_key = [owner for (name, _), (owner, _) in permits.items() if name == key]
        # A fail-over may have forgotten what the owner believes to have.
        held = min(wanted, self._held.get(key, 0), of_key.count(self._owner))
        self._held[key] = self._held.get(key, 0) - held
        free = [slot for slot in range(running) if (key, slot) not in permits]
        new = free[: max(0, min(wanted - held, running - len(of_key)))]
        permits.update({(key, slot): (self._owner, self._claim_seq) for slot in new})
        self.permits += [Permit(key, slot, self._claim_seq) for slot in new]
        return held + len(new)
