"""What a supervisor may still act on: its lease, the leases of others, and which jobs are its own.

Three questions, each answered from facts that are handed in; the argument for the answers:

* *May I go on?* `OwnLease`. The storage's lease ends no earlier than the moment at which the
  renewal was sent plus the ttl, in real time. Counted from that moment on a clock that goes on
  while the machine sleeps (CLOCK_BOOTTIME), less a margin for clocks that drift, less the time that
  killing takes: whoever stops then has stopped before anybody else may begin.
* *Is another one dead?* `SecondOpinion`. The storage says that the lease is over, and this
  supervisor has itself seen no renewal for a whole ttl of its own clock. Two clocks would have to
  be wrong in the same direction.
* *Do I run what the storage thinks that I run?* `reconcile`. Answers get lost, and a fail-over can
  lose what was answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synk.claim import Fence

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from uuid import UUID

    from synk.claim import ClaimedJob, Outcome
    from synk.status import Lease

BEATS_A_TTL: Final = 6
"""Renewals in the time of one lease: five may fail before it is over."""

_MARGIN: Final = 0.1
"""Of the ttl: far more than two clocks can drift apart in that time."""

_KILL_S: Final = 2.0
"""What killing all workers takes at the most."""


class OwnLease:
    """This supervisor's own lease, by its own clock. Times are seconds of CLOCK_BOOTTIME.

    Args:
        ttl_s: how long the storage grants it for, from each renewal on.
    """

    def __init__(self, ttl_s: float) -> None:
        self._usable_s = ttl_s * (1 - _MARGIN) - min(_KILL_S, ttl_s / 12)
        self.beat_s = ttl_s / BEATS_A_TTL
        """How often it is to be renewed."""
        self._stop_at = float("-inf")

    def renewed(self, sent_at: float) -> None:
        """A renewal that was sent at this time was granted."""
        self._stop_at = max(self._stop_at, sent_at + self._usable_s)

    def left_s(self, now: float) -> float:
        """Returns for how long work may go on; 0 or less: everything must stop."""
        return self._stop_at - now


class SecondOpinion:
    """What this supervisor has itself seen of the others' renewals. Times as in `OwnLease`.

    Args:
        ttl_s: how long one must be seen without a renewal. Longer leases than this one's own only
            delay the verdict of the storage, which comes first.
    """

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._seen: dict[UUID, tuple[int, float]] = {}

    def suspects(self, leases: Sequence[Lease], now: float) -> list[Lease]:
        """Takes in what the storage says; returns those that may be declared dead."""
        seen: dict[UUID, tuple[int, float]] = {}
        suspects: list[Lease] = []
        for lease in leases:
            beat, since = self._seen.get(lease.owner, (lease.beat, now))
            if beat != lease.beat:
                since = now
            seen[lease.owner] = (lease.beat, since)
            if lease.is_over and now - since >= self._ttl_s:
                suspects.append(lease)
        self._seen = seen
        return suspects


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Where the storage and this supervisor disagree, and what is to be done about it."""

    again: list[Outcome] = field(default_factory=list["Outcome"])
    """Outcomes that the storage had accepted and has lost: send them again, do not run again."""
    ghosts: list[ClaimedJob] = field(default_factory=list["ClaimedJob"])
    """Claims whose answer never arrived: they have not run. Give them back, uncharged."""
    strays: list[ClaimedJob] = field(default_factory=list["ClaimedJob"])
    """Jobs that nobody here knows: they may have run. Give them back, charged."""
    gone: list[Fence] = field(default_factory=list[Fence])
    """What is held here and belongs to nobody, or somebody else: end it, drop its outcome."""


def fence_of(job: ClaimedJob | Outcome) -> Fence:
    """Returns what names the claim of a job."""
    return Fence(job.id, job.attempt, job.claim_seq)


def one_of(fences: Collection[Fence]) -> Callable[[ClaimedJob], bool]:
    """Returns what says of a job whether its claim is one of these."""
    wanted, ids = set(fences), {fence.id for fence in fences}
    return lambda job: job.id in ids and fence_of(job) in wanted


def reconcile(
    running: Sequence[ClaimedJob],
    *,
    held: Collection[Fence],
    still_held: Collection[Fence],
    outcomes: Collection[Fence],
    accepted: Mapping[Fence, Outcome],
    unanswered: Collection[int],
) -> Reconciliation:
    """Compares what the storage says with what is here. No claim may be under way meanwhile.

    Args:
        running: what the storage says that this supervisor runs.
        held: what the pool held before the storage was asked.
        still_held: what it held afterwards.
        outcomes: what was on its way to the storage, looked at after *held*.
        accepted: what the storage accepted lately.
        unanswered: the numbers of claim calls whose answer never arrived.
    """
    found = Reconciliation()
    known = set[Fence]()
    for job in running:
        fence = fence_of(job)
        known.add(fence)
        if fence in held or fence in outcomes:
            continue
        if fence in accepted:
            found.again.append(accepted[fence])
        elif job.claim_seq in unanswered:
            found.ghosts.append(job)
        else:
            found.strays.append(job)
    found.gone.extend(fence for fence in still_held if fence in held and fence not in known)
    return found
