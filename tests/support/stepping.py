"""Loops that are driven without a thread."""

from __future__ import annotations

import math
from collections.abc import Callable

STEPS_MAX = 100_000


def step_until_idle(step: Callable[[float], float], now: float = 0.0) -> float:
    """Has no pause take any time; returns when there was nothing left to do."""
    for _ in range(STEPS_MAX):
        pause_s = step(now)
        if pause_s == math.inf:
            return now
        now += pause_s
    raise AssertionError("there is no end of steps")
