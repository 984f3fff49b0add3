"""Gives a loop its thread, its pauses and its end.

A loop is an object with `step(now)`: it does what is due at that time, and returns the seconds
until its next step, `math.inf` if it only waits to be woken. It knows nothing of threads, so that
anything with a clock can drive it. A step may come early, since a loop can be woken; what a step
waits for is an answer of the storage, and that is bounded.
"""

from __future__ import annotations

import contextlib
import math
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class LoopRunner:
    """Runs one loop in a thread of its own.

    Args:
        name: the thread's.
        on_failure: called in that thread with what a step has raised, which is a bug.
        clock: gives the time that steps are told.
    """

    def __init__(
        self,
        name: str,
        on_failure: Callable[[BaseException], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_failure = on_failure
        self._clock = clock
        self._name = name
        self._thread: threading.Thread | None = None
        self.step: Callable[[float], float] = lambda _: math.inf
        self.close: Callable[[], None] = lambda: None
        """Called in the loop's thread after the last step."""
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_woken = False
        self._is_finishing = False
        self._is_stopping = False

    def start(
        self, step: Callable[[float], float], *, close: Callable[[], None] = lambda: None
    ) -> None:
        """Begins with the first step; *close* is called in the loop's thread after the last."""
        self.step, self.close = step, close
        self._thread = threading.Thread(target=self._run, name=f"synk-{self._name}", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Has the next step come now, or again if one is under way. For any thread."""
        # Most calls come while it is awake, and cost nothing.
        if not self._is_woken:
            self._is_woken = True
            self._wakes.put(None)

    def finish(self) -> None:
        """Ends the thread once the loop has nothing to do until it is woken."""
        self._is_finishing = True
        self.wake()

    def stop(self) -> None:
        """Ends the thread after the step that is under way."""
        self._is_stopping = True
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Waits for the end of the thread, at most so long."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def turn(self) -> float | None:
        """Takes a step; returns the seconds until the next one, None: there is none any more."""
        if self._is_stopping:
            return None
        # Both before the step: it sees all that was there when they were set.
        is_last = self._is_finishing
        self._is_woken = False
        pause_s = self.step(self._clock())
        return None if is_last and pause_s == math.inf else pause_s

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as at_the_end:
                at_the_end.callback(self.close)
                while (pause_s := self.turn()) is not None:
                    with contextlib.suppress(queue.Empty):
                        self._wakes.get(timeout=None if pause_s == math.inf else pause_s)
        except BaseException as error:  # noqa: BLE001 - told to whoever runs the loop
            self._on_failure(error)
