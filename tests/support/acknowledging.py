"""An acknowledging loop by itself, in a thread of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from support.facts import Facts
from support.supervising import DEADLINE_S
from synk.claim import Outcome
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.loop_runner import LoopRunner
from synk.storage.base import Storage
from synk.telemetry import Telemetry
from synk.testing.making import OWNER


@contextmanager
def acknowledging_loop(
    storage: Storage, owner: UUID, told: Telemetry
) -> Iterator[tuple[AckLoop, LoopRunner]]:
    """A loop that stores outcomes."""
    failures: list[BaseException] = []
    runner = LoopRunner("ack", failures.append)
    acks = AckLoop(storage, owner, told, wake=runner.wake)
    runner.start(acks.step)
    try:
        yield acks, runner
    finally:
        runner.stop()
        runner.join(DEADLINE_S)
    assert failures == []


@contextmanager
def acknowledging(storage: Storage, outcomes: Sequence[Outcome]) -> Iterator[tuple[AckLoop, Facts]]:
    """A loop that has these to store, in one batch."""
    told = Telemetry()
    facts = Facts(told)
    with acknowledging_loop(storage, OWNER, told) as (acks, _):
        acks.offer(outcomes)
        yield acks, facts
