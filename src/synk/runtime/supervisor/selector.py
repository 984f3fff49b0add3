"""What the engine's loop waits for: channels, outputs and deaths of workers, the fork server."""

from __future__ import annotations

import contextlib
import selectors
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from synk.runtime.supervisor.job_output import Pipe
    from synk.runtime.supervisor.worker_process import WorkerProcess

OUTPUT_PAUSE_S: Final = 0.02
"""Between two looks at a worker's output: a job that writes much must not keep the loop busy."""


class Source(Enum):
    """What there is to hear of."""

    WAKE = auto()
    """Another thread has something for the loop."""
    FORK_SERVER = auto()
    CHANNEL = auto()
    OUTPUT = auto()
    DEATH = auto()


class Sign(NamedTuple):
    """Something is to be heard."""

    source: Source
    slot: int
    fd: int


class Selector:
    """A selector, and which outputs rest for a moment."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._output_at: dict[int, float] = {}
        """When to look at a slot's output again."""

    def wait(self, timeout_s: float) -> list[Sign]:
        """Waits until there is something, at most so long; returns what."""
        ready = self._selector.select(timeout_s)
        return [Sign(key.data[0], key.data[1], key.fd) for key, _ in ready]

    def next_at(self) -> Iterable[float]:
        """Returns when outputs have rested, on the monotonic clock."""
        return self._output_at.values()

    def watch(
        self, fd: int, source: Source, slot: int = 0, events: int = selectors.EVENT_READ
    ) -> None:
        """Hears of *fd* from now on; again, for other events."""
        try:
            if self._selector.get_key(fd).events != events:
                self._selector.modify(fd, events, (source, slot))
        except KeyError:
            self._selector.register(fd, events, (source, slot))

    def forget(self, fd: int) -> None:
        """Hears no more of *fd*, if it did. It may be closed by now."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(fd)

    def watch_channel(self, slot: int, process: WorkerProcess) -> None:
        """Hears of replies, and of room for batches where some wait for it."""
        if process.is_garbled:
            return
        events = selectors.EVENT_READ
        if process.wants_flush:
            events |= selectors.EVENT_WRITE
        self.watch(process.channel.fileno(), Source.CHANNEL, slot, events)

    def watch_outputs(self, slot: int, outputs: Iterable[Pipe]) -> None:
        """Hears of what a slot's jobs write, once its outputs have rested."""
        if slot not in self._output_at:
            for pipe in outputs:
                self.watch(pipe.fd, Source.OUTPUT, slot)

    def forget_outputs(self, outputs: Iterable[Pipe]) -> None:
        """Hears no more of them."""
        for pipe in outputs:
            self.forget(pipe.fd)

    def rest_outputs(self, slot: int, now: float) -> None:
        """Lets a slot's outputs, which are not watched, rest from now on."""
        self._output_at[slot] = now + OUTPUT_PAUSE_S

    def rested(self, now: float) -> Iterator[int]:
        """Yields the slots whose outputs have rested."""
        for slot, due in list(self._output_at.items()):
            if now >= due:
                del self._output_at[slot]
                yield slot

    def forget_slot(self, slot: int, process: WorkerProcess) -> None:
        """Hears no more of what belongs to a slot's process."""
        self._output_at.pop(slot, None)
        self.forget(process.channel.fileno())
        self.forget(process.pidfd)
        self.forget_outputs(process.outputs)

    def close(self) -> None:
        """Ends it."""
        self._selector.close()
