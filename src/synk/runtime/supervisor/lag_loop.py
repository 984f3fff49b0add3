"""The loop that notices when the engine's loop does not turn: while it does not, kills are late.

Nothing in that loop waits, and it runs none of the user's code but what subscribes to telemetry. So
a lag means a bug, a subscriber that is slow, or a process that was stopped or gets no CPU.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Final

from synk.telemetry import LoopResumed, LoopStalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.runtime.supervisor.engine import Engine
    from synk.telemetry import Telemetry

LOOK_S: Final = 1.0
"""From one look to the next."""

LAG_S: Final = 1.0
"""A loop that takes longer than this to answer is told of."""


class LagLoop:
    """Asks the engine's loop for a sign of life. It must be made in that loop's thread.

    Args:
        engine: is asked.
        facts: hears of a lag.
        wake: has the next step come at once.
    """

    def __init__(self, engine: Engine, facts: Telemetry, wake: Callable[[], None]) -> None:
        self._engine = engine
        self._facts = facts
        self._wake = wake
        self._engine_thread = threading.get_ident()
        self._asked_at: float | None = None
        self._has_answered = False
        self._is_stalled = False

    def step(self, now: float) -> float:
        """Asks, or sees whether there is an answer; returns the seconds until the next step."""
        if self._asked_at is None:
            self._asked_at, self._has_answered = now, False
            self._engine.call(lambda _: self._answer())
            return LAG_S
        lag_s = now - self._asked_at
        if self._has_answered:
            if self._is_stalled:
                self._facts.emit(LoopResumed(lag_s))
            self._asked_at, self._is_stalled = None, False
            return LOOK_S
        if lag_s >= LAG_S and not self._is_stalled and not self._engine.pool.is_stopped:
            self._is_stalled = True
            self._facts.emit(LoopStalled(lag_s, self._place()))
        return LAG_S

    def _answer(self) -> None:
        self._has_answered = True
        self._wake()

    def _place(self) -> str:
        """Says where the loop's thread is."""
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        frame = frames.get(self._engine_thread)
        if frame is None:
            return "nowhere"
        return f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
