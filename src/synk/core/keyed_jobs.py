"""Jobs that were claimed under the key of a limit, and the permits that there are for it here.

A permit is leave for one worker process, of the whole fleet, to have jobs of a key. Here it is
free, or it goes with one job that waits for a worker, or with a worker that has jobs of the key.
So no more workers have jobs of a key than there are permits, whatever becomes of the jobs. It is
free again once no worker can have begun one of them: that is known from the processes alone and
not from the rows, since a job can complete its row and go on.

A job that has no permit to go with waits here, and stands in nobody's way. It goes to a worker
that has jobs of its key already, or to any once a permit is free. Permits stay while there is work
for them, so that there is nothing to be written about them; `to_give_back` says which have been
free for long.

Jobs without a key are not known here, and cost nothing.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from synk.core.keys import Key, KeyRoom
from synk.limit import Permit

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from synk.claim import ClaimedJob

LINGER_S: Final = 1.0
"""A permit that has been free for so long is given back: others may have work for it. Long enough
that whoever comes round to a key again and again writes nothing but jobs."""

STUCK_S: Final = 5.0
"""Jobs of a key of which no worker could take any for so long go back to the storage: another
supervisor may have a permit that is free."""

_SLOW_S: Final = 0.25
"""Where no worker has taken a job of a key for so long, and one has some, no more are wanted for
the permits that are here."""

_LINE: Final = -1
_WAITS: Final = -2
"""Places of jobs; others are the numbers of slots."""


@dataclass(slots=True, eq=False)
class _Held:
    job: ClaimedJob
    key: Key
    place: int


def _urgency(job: ClaimedJob) -> tuple[int, float, int]:
    return job.priority, job.scheduled_at, job.id


class KeyedJobs:
    """The keyed jobs of one supervisor, wherever they are, and its permits.

    It has more methods than other classes: what happens to a job and to its permit is one thing.
    """

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._jobs: dict[int, _Held] = {}
        self._at: dict[int, set[Key]] = {}
        """Of which keys each slot's worker has jobs."""
        self._parked: set[Key] = set()
        """Keys of which jobs wait for a permit."""
        self._changed: set[Key] = set()
        """Keys of which a permit may have become free, or is not any more."""
        self._idle: dict[Key, float] = {}
        """Keys with free permits, and since when, the oldest first."""
        self._surplus: set[Key] = set()
        """Keys with permits that are above the limit."""
        self._look_at = float("inf")
        """When to look for jobs that have waited for too long."""
        self._freed = 0
        """How often a permit was left without work."""

    def __bool__(self) -> bool:
        """Whether there is any key; if not, there is nothing to be asked."""
        return bool(self._keys)

    def __iter__(self) -> Iterator[ClaimedJob]:
        """Gives the jobs that wait for a permit."""
        for key in self._parked:
            yield from key.waiting

    # -- what comes -------------------------------------------------------------------------------

    def granted(self, permits: Iterable[Permit]) -> None:
        """These permits are this supervisor's now, beside those that it has."""
        for permit in permits:
            key = self._key(permit.key)
            key.permits[permit.slot] = permit.claim_seq
            key.is_shut = False
            self._changed.add(key)

    def arrived(
        self, jobs: Iterable[ClaimedJob], keys: Mapping[int, str], now: float
    ) -> list[ClaimedJob]:
        """Takes in *jobs*, of which some have keys; returns those that any worker may have now."""
        ready: list[ClaimedJob] = []
        for job in jobs:
            name = keys.get(job.id)
            if name is None:
                ready.append(job)
                continue
            key = self._key(name)
            key.kind = job.kind
            held = self._jobs[job.id] = _Held(job, key, _LINE)
            self._changed.add(key)
            if key.free > 0 and not key.waiting:
                key.in_line += 1
                ready.append(job)
            else:
                self._park(held, now)
        return ready

    def _key(self, name: str) -> Key:
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = Key(name)
        return key

    def _park(self, held: _Held, now: float) -> None:
        key = held.key
        if not key.waiting:
            key.waits_since = now
            self._parked.add(key)
            self._look_at = min(self._look_at, now + STUCK_S)
        held.place = _WAITS
        insort(key.waiting, held.job, key=_urgency)

    # -- where jobs go ----------------------------------------------------------------------------

    def gave(self, slot: int, jobs: Iterable[ClaimedJob], now: float) -> None:
        """The slot's worker was given *jobs*, which waited for any worker."""
        for job in jobs:
            held = self._jobs.get(job.id)
            if held is not None:
                held.key.in_line -= 1
                self._place(held, slot, now)

    def _place(self, held: _Held, slot: int, now: float) -> None:
        key = held.key
        held.place = slot
        key.waits_since = key.moved_at = now
        key.slots[slot] = key.slots.get(slot, 0) + 1
        self._at.setdefault(slot, set()).add(key)
        if key.slots[slot] > 1:
            # Two of its jobs at one worker need one permit.
            self._changed.add(key)

    @property
    def are_waiting(self) -> bool:
        """Whether jobs wait that no permit goes with."""
        return bool(self._parked)

    def followers(self, slot: int) -> list[Sequence[ClaimedJob]]:
        """Returns jobs that this slot's worker alone may have, a list for each key, in order."""
        keys = self._at.get(slot)
        if not keys or not self._parked:
            return []
        return [key.waiting for key in sorted(keys & self._parked, key=lambda key: key.name)]

    def follow(self, slot: int, jobs: Sequence[ClaimedJob], now: float) -> None:
        """The slot's worker was given *jobs*, the first of such a list."""
        key = self._jobs[jobs[0].id].key
        del key.waiting[: len(jobs)]
        if not key.waiting:
            self._parked.discard(key)
        for job in jobs:
            self._place(self._jobs[job.id], slot, now)

    def came_back(self, jobs: Iterable[ClaimedJob], now: float) -> set[int]:
        """These were taken back from a worker, in order; returns the ids of those that wait here.

        The others may go to any worker.
        """
        found = [held for job in jobs if (held := self._jobs.get(job.id)) is not None]
        for held in found:
            self._leave(held)
        parked: set[int] = set()
        for held in found:
            if held.key.free > 0:
                held.place = _LINE
                held.key.in_line += 1
            else:
                self._park(held, now)
                parked.add(held.job.id)
        return parked

    def admitted(self, now: float) -> list[ClaimedJob]:
        """Returns the jobs that any worker may have now, since a permit has become free."""
        if not self._changed:
            return []
        ready: list[ClaimedJob] = []
        for key in self._changed:
            while key.waiting and key.free > 0:
                job = key.waiting.pop(0)
                self._jobs[job.id].place = _LINE
                key.in_line += 1
                ready.append(job)
            if not key.waiting:
                self._parked.discard(key)
            self._look_whether_idle(key, now)
        self._changed.clear()
        ready.sort(key=_urgency)
        return ready

    def _look_whether_idle(self, key: Key, now: float) -> None:
        if key.free <= 0:
            self._idle.pop(key, None)
            if key.is_at_rest and not key.permits and not key.surplus:
                del self._keys[key.name]
        elif key not in self._idle:
            self._idle[key] = now
            self._freed += 1

    def may_move(self, job: ClaimedJob, head: ClaimedJob) -> bool:
        """Whether *job*, which waits at a worker behind *head*, could begin at another one."""
        held = self._jobs.get(job.id)
        if held is None:
            return True
        first = self._jobs.get(head.id)
        return first is None or first.key is not held.key or held.key.free > 0

    # -- how they end -----------------------------------------------------------------------------

    def over(self, jobs: Iterable[ClaimedJob]) -> None:
        """No worker has these any more: they are to be settled."""
        for job in jobs:
            held = self._jobs.get(job.id)
            # Of a job that was claimed again after a fail-over the former claim is what counts.
            if held is not None and held.job is job:
                del self._jobs[job.id]
                self._leave(held)

    def _leave(self, held: _Held) -> None:
        key = held.key
        self._changed.add(key)
        if held.place == _LINE:
            key.in_line -= 1
        elif held.place == _WAITS:
            key.waiting.remove(held.job)
            if not key.waiting:
                self._parked.discard(key)
        elif key.slots[held.place] == 1:
            del key.slots[held.place]
            key.is_shut = False
            self._at[held.place].discard(key)
        else:
            key.slots[held.place] -= 1

    def remove_where(self, unwanted: Callable[[ClaimedJob], bool]) -> list[ClaimedJob]:
        """Takes out and returns the jobs that wait here for which *unwanted* is true."""
        removed = [job for job in self if unwanted(job)]
        self.over(removed)
        return removed

    def stuck(self, now: float) -> list[ClaimedJob]:
        """Takes out and returns the jobs of keys of which no worker has taken any for long."""
        if now < self._look_at:
            return []
        stuck: list[ClaimedJob] = []
        for key in self._parked:
            if now >= key.waits_since + STUCK_S:
                key.is_shut = True
                stuck += key.waiting
        self.over(stuck)
        times = [key.waits_since + STUCK_S for key in self._parked]
        self._look_at = min(times, default=float("inf"))
        return stuck

    def stuck_times(self) -> list[float]:
        """Returns when there will be such jobs."""
        return [self._look_at] if self._parked else []

    # -- permits ----------------------------------------------------------------------------------

    def room(
        self, per_permit: int, now: float, *, permits_max: int, long: Container[str] = ()
    ) -> KeyRoom:
        """Returns which keys *per_permit* more jobs may be claimed of, for each permit.

        Args:
            per_permit: jobs that are to be at hand under one permit.
            long: kinds of which nothing is to wait behind another job.
            now: the time.
            permits_max: as many as are of use: there are no more workers.
        """
        held: dict[str, int] = {}
        full: list[str] = []
        for key in self._keys.values():
            # From half on they are filled up: whoever is at work for a key shall not wait.
            per = 1 if key.kind in long else per_permit
            taken = -(-max(0, key.jobs - per // 2) // per)
            is_slow = key.is_shut or (bool(key.slots) and now - key.moved_at > _SLOW_S)
            if len(key.permits) > taken and not is_slow:
                held[key.name] = len(key.permits) - taken
            elif len(key.permits) >= permits_max:
                full.append(key.name)
        return KeyRoom(held, full)

    def held(self) -> list[Permit]:
        """Returns all permits that are here."""
        return [
            Permit(key.name, slot, claim_seq)
            for key in self._keys.values()
            for slot, claim_seq in (key.permits | key.surplus).items()
        ]

    def limit(self, running_of: Callable[[str], int | None]) -> None:
        """Takes in what limits say now of each key: how many workers; None: any number."""
        for key in self._keys.values():
            running = running_of(key.name)
            both = key.permits | key.surplus
            most = float("inf") if running is None else running
            key.surplus = {slot: seq for slot, seq in both.items() if slot >= most}
            key.permits = {slot: seq for slot, seq in both.items() if slot < most}
            self._changed.add(key)
        self._surplus = {key for key in self._keys.values() if key.surplus}

    def withdrawn(self, permits: Iterable[Permit]) -> None:
        """These are not this supervisor's any more; what runs under them is let go on."""
        for permit in permits:
            key = self._key(permit.key)
            key.permits.pop(permit.slot, None)
            key.surplus.pop(permit.slot, None)
            self._changed.add(key)

    def renamed(self, permits: Iterable[Permit]) -> None:
        """These are here, of the same keys and slots, and the storage has them of other claims."""
        for permit in permits:
            key = self._key(permit.key)
            of = key.surplus if permit.slot in key.surplus else key.permits
            of[permit.slot] = permit.claim_seq

    def news(self) -> tuple[int, float | None]:
        """Returns how often a permit was left without work, and when there are some to give back.

        That is, if nothing happens; None: never.
        """
        return (self._freed, self._to_give_back_at()) if self._keys else (self._freed, None)

    def _to_give_back_at(self) -> float | None:
        if any(key.excess for key in self._surplus):
            return 0.0
        oldest = next(iter(self._idle.values()), None)
        return None if oldest is None else oldest + LINGER_S

    def to_give_back(self, now: float) -> list[Permit]:
        """Takes out and returns the permits that have been free for long, or are not to be had.

        No claim may be under way that was told of them.
        """
        given: list[Permit] = []
        for key in self._surplus:
            excess = sorted(key.surplus.items())[: key.excess]
            given += [Permit(key.name, slot, claim_seq) for slot, claim_seq in excess]
        for key in [key for key, since in self._idle.items() if now >= since + LINGER_S]:
            free = sorted(key.permits.items())[: max(0, key.free)]
            given += [Permit(key.name, slot, claim_seq) for slot, claim_seq in free]
        self.withdrawn(given)
        self._surplus = {key for key in self._surplus if key.surplus}
        return given
