"""The thread that notices when the engine's loop does not turn: while it does not, kills are late.

Nothing in that loop waits, and it runs none of the user's code but what subscribes to telemetry. So
a lag means a bug, a subscriber that is slow, or a process that was stopped or gets no CPU.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Final

from synk.telemetry import LoopResumed, LoopStalled

if TYPE_CHECKING:
    from synk.runtime.supervisor.engine import Engine
    from synk.telemetry import Telemetry

LOOK_S: Final = 1.0
"""From one look to the next."""

LAG_S: Final = 1.0
"""A loop that takes longer than this to answer is told of."""


class LagLoop:
    """Asks the engine's loop for a sign of life. It must be made in that loop's thread."""

    def __init__(self, engine: Engine, facts: Telemetry) -> None:
        self._engine = engine
        self._facts = facts
        self._thread = threading.get_ident()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Ends `run`, at the latest when its present wait is over."""
        self._stop.set()

    def run(self) -> None:
        """Looks until `stop`."""
        while not self._stop.wait(LOOK_S):
            answered = threading.Event()
            asked_at = time.monotonic()
            self._engine.call(lambda _, sign=answered: sign.set())
            if answered.wait(LAG_S) or self._stop.is_set() or self._engine.pool.is_stopped:
                continue
            self._facts.emit(LoopStalled(time.monotonic() - asked_at, self._place()))
            while not self._stop.is_set():
                if answered.wait(LAG_S):
                    self._facts.emit(LoopResumed(time.monotonic() - asked_at))
                    break

    def _place(self) -> str:
        """Says where the loop's thread is."""
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        frame = frames.get(self._thread)
        if frame is None:
            return "nowhere"
        return f"{frame.f_code.co_name} at {frame.f_code.co_filename}:{frame.f_lineno}"
