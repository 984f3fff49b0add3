"""When jobs that have keys are to be claimed from one queue, beside the plain ones.

They take turns with the plain claims of their queue, where both are due. Keys are gone through in
rounds, some dozens a claim. A round that brings nothing is not begun again soon: all keys have what
they may have, however many jobs wait. What ends that rest is told: new jobs, a permit of one's own
that has no work any more, a limit that was changed, a job whose rate lets it begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from synk.limit import KeyedClaim, KeyedCursor

_ROUND_SHARE: Final = 20
_TOLD_SHARE: Final = 5
"""A round that brought nothing takes no more than this part of the time: the first where nothing is
told, the second where new jobs are all the time, which may have no keys."""

_REST_MAX_S: Final = 10.0


class KeyedTimes:
    """The keyed claims of one queue. Times are seconds of the monotonic clock.

    Args:
        fetch_s: how often it is asked, when nothing is told.
        is_limited: whether limits are known for jobs of this queue. If not, others may know some,
            and have stored jobs with keys: these are run too, but not waited for.
    """

    def __init__(self, fetch_s: float, *, is_limited: bool = True) -> None:
        self._fetch_s = fetch_s
        self.is_limited = is_limited
        self._rests_until = 0.0
        self.due_at = 0.0
        self.turn = -1
        """The number of the last claim."""
        self.after: KeyedCursor = {}
        """Where the next claim goes on."""
        self._empty = 0
        """Rounds in a row that brought nothing."""
        self._is_fruitful = False
        """Whether the present round has brought anything."""
        self._round_s = 0.0
        """What the claims of the present round took."""

    def began(self, turn: int, now: float) -> None:
        """A claim is under way."""
        self.turn = turn
        self.due_at = now + self._fetch_s

    def announced(self) -> None:
        """There are new jobs, which may have keys."""
        if self.is_limited:
            self.due_at = min(self.due_at, self._rests_until)
            self._empty = 0

    def look_now(self) -> None:
        """There is something to claim, as far as can be known."""
        self.due_at = 0.0
        self._empty = 0

    def claimed(
        self, found: KeyedClaim, limit: int, *, began: float, now: float, patience: int
    ) -> None:
        """Takes in what a claim brought that wanted *limit* jobs.

        Args:
            found: what it brought.
            limit: how many it wanted.
            began: when it was asked.
            now: when it was answered.
            patience: intervals that it is left in peace at the most, beside the first.
        """
        self.after = found.next
        took_s = now - began
        self._round_s += took_s
        self._is_fruitful |= bool(found.jobs)
        if _may_be_more(found, limit):
            self.due_at = 0.0
        elif found.is_cut:
            # Through thousands of keys that have what they may have: half of the time.
            self.due_at = 0.0 if found.jobs else now + took_s
        if not found.is_cut:
            self._end_round(now, patience)
        if found.token_in_s is not None:
            self.due_at = min(self.due_at, now + max(0.0, found.token_in_s))

    def _end_round(self, now: float, patience: int) -> None:
        if not self._is_fruitful:
            fetches = 1 + min(self._empty, patience)
            self._rests_until = now + _TOLD_SHARE * self._round_s
            rest_s = min(_REST_MAX_S, _ROUND_SHARE * self._round_s)
            self.due_at = now + max(self._fetch_s * fetches, rest_s)
            self._empty += 1
        else:
            self._empty = 0
        self._is_fruitful = False
        self._round_s = 0.0


def _may_be_more(found: KeyedClaim, limit: int) -> bool:
    """Whether a claim brought all that it wanted, or of one of its keys all that this could get.

    What is wanted is shared by the keys that wait.
    """
    if not found.jobs or len(found.jobs) >= limit:
        return bool(found.jobs)
    counts: dict[str, int] = {}
    for key in found.keys:
        counts[key] = counts.get(key, 0) + 1
    return len(counts) > 1 and max(counts.values()) >= -(-limit // len(counts))
