"""An acknowledging loop by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from support.facts import Facts
from support.supervising import DEADLINE_S
from synk.claim import Outcome
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.storage.base import Storage
from synk.telemetry import Telemetry
from synk.testing.making import OWNER


@contextmanager
def acknowledging(storage: Storage, outcomes: Sequence[Outcome]) -> Iterator[tuple[AckLoop, Facts]]:
    """A loop that has these to store, in one batch."""
    told = Telemetry()
    facts = Facts(told)
    acks = AckLoop(storage, OWNER, told)
    acks.offer(outcomes)
    thread = threading.Thread(target=acks.run)
    thread.start()
    try:
        yield acks, facts
    finally:
        acks.finish_by(time.monotonic())
        thread.join(DEADLINE_S)
        assert not thread.is_alive()
