"""How long jobs take: moving averages by kind and by queue, which size windows and claims."""

from __future__ import annotations

from typing import Final

UNKNOWN_S: Final = 1.0
"""What a job of a kind that was never seen is taken to need: long, so that nothing queues behind
it until one of its kind has been measured."""

_WEIGHT: Final = 0.1
"""Of the newest measure in the average: some twenty jobs forget a change."""

_OVERHEAD_S: Final = 10e-6
"""What even an empty job costs its worker: decoding, bookkeeping."""


class Estimates:
    """Expected wall times in seconds."""

    def __init__(self) -> None:
        self._by_name: dict[str, float] = {}
        self._by_queue: dict[str, float] = {}

    def expected_s(self, name: str) -> float:
        """Returns how long a job of this kind is expected to run."""
        return self._by_name.get(name, UNKNOWN_S)

    def learn(self, name: str, seconds: float, count: int = 1) -> None:
        """Takes *count* more measures, and their mean, into account."""
        known = self._by_name.get(name)
        seconds += _OVERHEAD_S
        weight = 1 - (1 - _WEIGHT) ** count
        self._by_name[name] = seconds if known is None else known + (seconds - known) * weight

    def lately_in(self, queue: str) -> float:
        """Returns how long the jobs of this queue, of whatever kind, ran of late; 0: none did."""
        return self._by_queue.get(queue, 0.0)

    def learn_of_queue(self, queue: str, seconds: float) -> None:
        """Takes the mean of some jobs that ran into account."""
        known = self._by_queue.get(queue, seconds)
        self._by_queue[queue] = known + (seconds - known) * _WEIGHT
