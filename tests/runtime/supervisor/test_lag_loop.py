"""An engine whose loop does not turn is told of."""

from __future__ import annotations

import time

from synk.runtime.supervisor.engine import Engine
from synk.runtime.supervisor.lag_loop import LAG_S, LOOK_S, LagLoop
from synk.telemetry import Fact, LoopStalled, Telemetry


def test_a_loop_that_does_not_turn_is_told_of_once_with_the_place_where_it_is(
    still_engine: Engine,
) -> None:
    told = Telemetry()
    facts: list[Fact] = []
    told.subscribe(facts.append)
    lag = LagLoop(still_engine, told, lambda: None)
    assert lag.step(0.0) == LAG_S
    assert lag.step(LAG_S / 2) == LAG_S, "woken early, it tells nothing yet"
    assert facts == []

    for late in range(1, 6):
        assert lag.step(late * LAG_S) == LAG_S

    (stalled,) = facts
    assert isinstance(stalled, LoopStalled)
    assert "lag_loop.py:" in stalled.place


def test_a_loop_that_answers_is_asked_again_after_a_while(still_engine: Engine) -> None:
    told = Telemetry()
    facts: list[Fact] = []
    told.subscribe(facts.append)
    woken: list[bool] = []
    lag = LagLoop(still_engine, told, lambda: woken.append(True))

    for second in range(3):
        assert lag.step(2.0 * second) == LAG_S
        still_engine.step(time.monotonic())
        assert len(woken) == second + 1
        assert lag.step(2.0 * second + 0.01) == LOOK_S

    assert facts == []
