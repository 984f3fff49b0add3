"""Jobs that weigh something, in virtual time: when they begin, and what may run beside them."""

from __future__ import annotations

from typing import Any

import pytest

from support.pool_world import fence
from support.weighted_world import GIB, Machine, budget_of, heavy
from synk.core import messages as m
from synk.core.dispatch import WeightedDemand
from synk.core.limits import QueueLimits
from synk.core.weighted_dispatch import PATIENCE_S
from synk.core.weights import Load
from synk.weight import Weight

LIGHT_S = 0.5


def machine_of(
    cores: int = 8,
    *,
    weights: dict[str, Weight] | None = None,
    lasts: dict[str, float] | None = None,
    **options: Any,
) -> Machine:
    """Four cores of eight for *big*; *light* jobs take half a second."""
    budget = budget_of({"big": heavy(4), **(weights or {})}, cores=cores)
    return Machine(budget, {"light": LIGHT_S, "big": 2.0, **(lasts or {})}, slots=cores, **options)


def running(machine: Machine) -> list[str]:
    return sorted(w.running[1].kind for w in machine.workers.values() if w.running)


def test_a_job_of_four_cores_takes_the_place_of_four_others() -> None:
    machine = machine_of()
    machine.insert("big")
    machine.run(0.1)
    machine.insert("light", 50)
    machine.run(0.1)

    assert running(machine) == ["big", *["light"] * 4]


def test_where_processes_outnumber_cores_each_stands_for_a_part_of_one() -> None:
    budget = budget_of({"big": heavy(1)}, cores=2, processes=8)
    machine = Machine(budget, {"light": 1.0, "big": 1.0}, slots=8)
    machine.insert("big")
    machine.run(0.1)
    machine.insert("light", 50)
    machine.run(0.1)

    assert running(machine) == ["big", *["light"] * 4]


def test_jobs_without_a_weight_alone_have_every_process() -> None:
    budget = budget_of({"big": heavy(2)}, cores=2, processes=8)
    machine = Machine(budget, {"light": 1.0}, slots=8)
    machine.insert("light", 50)
    machine.run(0.1)

    assert running(machine) == ["light"] * 8


def test_no_more_run_than_there_is_memory_for() -> None:
    machine = machine_of(weights={"model": heavy(memory=6)}, lasts={"model": 1.0})
    machine.insert("model", 5)
    machine.run(0.1)

    assert running(machine) == ["model"] * 2
    assert machine.pool.weighted_demand() == {"default": WeightedDemand(1, ("big",))}
    machine.run(2.0)
    assert machine.over["model"] == 4


def test_what_does_not_fit_now_is_left_to_other_supervisors() -> None:
    machine = machine_of(weights={"huge": heavy(8)}, lasts={"huge": 1.0, "big": 60.0})
    machine.insert("big")
    machine.insert("huge", 3)
    machine.run(2.0)

    assert running(machine) == ["big"]
    assert len(machine.stored) == 3
    assert "huge" not in machine.pool.weighted_demand()["default"].kinds


def test_one_that_was_claimed_and_does_not_fit_stands_in_nobodys_way() -> None:
    machine = machine_of(weights={"small": heavy(1)}, lasts={"small": 1.0, "big": 60.0})
    machine.insert("big", 3)
    machine.claim(*machine._taken("default", 3, {"big"}))
    machine.insert("small", 4)
    machine.insert("light", 1)
    machine.run(0.1)

    assert running(machine).count("big") == 2
    machine.run(7.0)
    # The third has gone back: these two may take hours.
    assert machine.given_back == {"big": 1}
    assert len(machine.pool.backlog.aside) == 0


def test_a_heavy_job_beside_a_stream_of_light_ones_begins_within_its_time() -> None:
    machine = machine_of()
    machine.stream("light", LIGHT_S / 9)
    machine.run(3.0)
    (big,) = machine.insert("big")
    machine.run(20.0)

    assert machine.waited(big) <= PATIENCE_S + LIGHT_S + 0.01
    assert machine.over["light"] > 250


@pytest.mark.parametrize("queue", ["default", "other"])
def test_heavy_jobs_and_a_stream_of_light_ones_share_the_machine(queue: str) -> None:
    queues = {name: QueueLimits(max_workers=100, timeout_s=90.0) for name in ("default", "other")}
    machine = machine_of(queues=queues)
    machine.stream("light", LIGHT_S / 9)
    machine.insert("big", 100, queue=queue)
    machine.run(40.0)

    assert machine.over["big"] >= 40 / (PATIENCE_S + LIGHT_S) - 1
    assert machine.over["light"] > 40 * 8 / LIGHT_S * 0.4


def test_a_heavy_job_begins_within_its_time_also_when_many_older_light_ones_wait() -> None:
    machine = machine_of()
    machine.insert("light", 1000)
    machine.run(1.0)
    (big,) = machine.insert("big")
    machine.run(10.0)

    assert machine.waited(big) <= PATIENCE_S + LIGHT_S + 0.01


@pytest.mark.parametrize("limited", [(), ("default",)])
@pytest.mark.parametrize("after_s", [2.0, 6.0, 9.0])
def test_a_look_for_jobs_with_keys_does_not_tell_that_no_heavy_job_waits(
    limited: tuple[str, ...], after_s: float
) -> None:
    machine = machine_of(keyed_s=10.0, limited=limited)
    machine.stream("light", LIGHT_S / 9)
    machine.run(after_s)
    (big,) = machine.insert("big")
    machine.run(2 * PATIENCE_S + 2.0)

    assert machine.waited(big) <= PATIENCE_S + LIGHT_S + 0.01


def test_of_two_heavy_kinds_the_heavier_is_not_starved_by_the_other() -> None:
    machine = machine_of(weights={"huge": heavy(7)}, lasts={"huge": 1.0, "big": 0.7})
    machine.stream("big", 0.1)
    machine.stream("light", 0.2)
    machine.run(3.0)
    (huge,) = machine.insert("huge")
    machine.run(30.0)

    # Up to the end of those that run when it has its reservation, and of the light ones after that.
    assert machine.waited(huge) <= PATIENCE_S + 0.7 + LIGHT_S + 0.01
    assert machine.over["big"] > 40


def test_while_others_with_a_weight_are_in_the_way_those_without_go_on() -> None:
    machine = machine_of(weights={"huge": heavy(7)}, lasts={"huge": 1.0, "big": 30.0})
    machine.insert("big")
    machine.stream("light", 0.2)
    machine.run(1.0)
    (huge,) = machine.insert("huge")
    before = machine.over["light"]
    machine.run(26.0)

    assert machine.over["light"] - before > 100
    assert huge not in machine.began
    # It waits where another supervisor can see it, not here.
    assert [each.id for each in machine.stored if each.kind == "huge"] == [huge]
    machine.run(20.0)
    assert machine.began[huge] - 130.0 <= LIGHT_S + 0.21


def test_more_urgent_jobs_begin_before_one_that_has_a_reservation() -> None:
    machine = machine_of(lasts={"long": 30.0})
    machine.insert("long", 5)
    machine.stream("light", LIGHT_S / 9)
    machine.run(1.0)
    machine.insert("big")
    machine.run(PATIENCE_S + 2.0)
    assert running(machine) == ["long"] * 5, "the light ones have stopped"
    urgent = machine.insert("light", 2, priority=1)
    machine.run(0.1)

    assert set(urgent) <= machine.began.keys()


def test_a_job_that_needs_no_more_than_a_worker_waits_for_its_turn_only() -> None:
    machine = machine_of(weights={"model": heavy(memory=1)}, lasts={"model": 0.1, "light": 0.05})
    machine.stream("light", 0.05 / 9)
    machine.run(1.0)
    models = machine.insert("model", 10)
    machine.run(2.0)

    assert max(map(machine.waited, models)) < 1.0


def test_a_stream_of_weighted_jobs_does_not_starve_those_without() -> None:
    machine = machine_of(weights={"model": heavy(memory=1)}, lasts={"model": 0.5})
    machine.stream("model", 0.5 / 9)
    machine.stream("light", 0.5 / 9)
    machine.run(30.0)

    assert machine.over["light"] > 100
    assert machine.over["model"] > 100


def test_nothing_is_claimed_again_and_again_for_a_kind_of_which_none_waits() -> None:
    machine = machine_of()
    machine.stream("light", LIGHT_S / 9)
    machine.run(30.0)

    assert machine.claims["big"] <= 30 / PATIENCE_S + 8
    assert machine.over["light"] > 30 * 8 / LIGHT_S * 0.9


def test_only_heavy_jobs_never_have_one_claimed_that_cannot_begin() -> None:
    machine = machine_of(lasts={"big": 7.0})
    machine.insert("big", 20)
    machine.run(60.0)

    assert machine.given_back == {}
    assert machine.over["big"] == 16


def test_a_worker_that_dies_gives_its_share_back_and_one_that_is_killed_when_it_is_gone() -> None:
    machine = machine_of(lasts={"big": 60.0})
    machine.insert("big", 3)
    machine.run(0.1)
    assert running(machine) == ["big"] * 2
    first, second = [n for n, w in machine.workers.items() if w.running]
    machine.die(first)
    machine.run(0.1)
    assert running(machine) == ["big"] * 2
    assert not [each for each in machine.stored if each.kind == "big"]
    machine.insert("big")
    claimed = machine.workers[second].running
    assert claimed is not None
    machine.handle(m.CancelRequested([fence(claimed[1])]))
    machine.run(5.5)

    assert machine.workers[second].dying
    assert running(machine) == ["big"] * 2, "its process is still there"
    machine.die(second)
    machine.run(0.1)
    assert running(machine) == ["big"] * 2


def test_what_is_prefetched_at_workers_does_not_begin_before_one_with_a_reservation() -> None:
    machine = machine_of(cores=2, weights={"big": heavy(2)}, lasts={"light": 0.001})
    machine.insert("light", 4_000)
    machine.run(0.5)
    assert max(len(slot.in_flight) for slot in machine.pool.slots) > 1
    # From now on each takes long.
    machine.lasts = {"light": 1.0, "big": 1.0}
    (big,) = machine.insert("big")
    machine.run(PATIENCE_S + 2.5)

    assert machine.waited(big) <= PATIENCE_S + 1.0 + 0.02


def test_a_queues_max_workers_holds_for_jobs_with_a_weight() -> None:
    queues = {"default": QueueLimits(max_workers=1, timeout_s=90.0)}
    machine = machine_of(queues=queues)
    machine.insert("big", 2)
    machine.run(0.1)

    assert running(machine) == ["big"]
    assert machine.pool.weighted_demand() == {}


def test_a_job_runs_on_cpus_that_no_other_heavy_job_has() -> None:
    budget = budget_of({"big": heavy(3), "model": heavy(memory=1)}, cores=8)

    first = budget.cpus_for("big", (), [])
    second = budget.cpus_for("big", (), [first])
    assert (first, second) == ((0, 1, 2), (3, 4, 5))
    assert budget.cpus_for("big", (1, 2, 3, 4, 5, 6), [first]) == (3, 4, 5)
    assert budget.cpus_for("big", (), [first, second]) == (0, 6, 7)
    assert budget.cpus_for("big", (5, 6), []) == (5, 6)
    assert budget.cpus_for("model", (), []) == ()


def test_jobs_are_sent_with_their_cpus() -> None:
    machine = machine_of()
    sent: list[m.Send] = []
    machine._send = sent.append  # type: ignore[method-assign, assignment]
    machine.insert("big", 2)
    machine._claim_all()

    assert [send.cpus for send in sent] == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_a_load_is_counted_in_parts_of_a_core() -> None:
    budget = budget_of(
        {"big": heavy(2, 3), "model": heavy(memory=5)}, cores=4, memory=8, processes=6
    )

    assert budget.cores_of(budget.load_of("big")) == 2.0
    assert budget.cores_of(budget.plain) == pytest.approx(4 / 6)
    assert budget.room(budget.plain, Load()) == 6
    assert budget.room(budget.plain, budget.load_of("big")) == 3
    assert budget.room(budget.load_of("big"), Load(0, 3 * GIB)) == 1
    assert not budget.fits(budget.load_of("model"), budget.load_of("model"))
