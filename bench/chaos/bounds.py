"""What bounds jobs while the chaos shakes it: limits, uniqueness, pauses and schedules.

Each check takes what the handlers and the users noted, and rows as they were; nothing here believes
what synk says of itself.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tested import checking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from chaos.check import Changed

LIMITED: Final = "limited"
RUNNING: Final = 2
"""Of that queue: processes of the fleet that may be at work for one tenant."""

SINGLE: Final = "single"
"""A queue in which each tenant has one unfinished job at the most."""

PAUSED: Final = "paused"
"""A queue that is paused now and then."""

TENANTS: Final = 3

TICKS: Final = "every second"
"""The name of the schedule, and of its jobs."""

EVERY_S: Final = 1.0


@dataclass(frozen=True)
class Pause:
    """A time in which nothing of the queue may begin: from the answer until it is resumed."""

    began: float
    ended: float


def i26_above_the_limit(
    executions: Iterable[checking.Execution],
    key_of: Callable[[int], str | None],
    is_excused: Callable[[checking.Execution, checking.Execution], bool],
) -> list[checking.Broken]:
    """Returns the executions that began beside as many of their key as may run.

    Args:
        executions: all of them.
        key_of: of a job, what it is limited by; None: nothing.
        is_excused: whether the first of two could not be ended when the second began.
    """
    broken: list[checking.Broken] = []
    by_key: dict[str, list[checking.Execution]] = defaultdict(list)
    for each in executions:
        if (key := key_of(each.job_id)) is not None:
            by_key[key].append(each)
    for key, own in by_key.items():
        running: list[checking.Execution] = []
        for each in sorted(own, key=lambda execution: execution.began):
            running = [other for other in running if other.seen > each.began]
            beside = [other for other in running if not is_excused(other, each)]
            if len(beside) >= RUNNING:
                problem = f"it began beside {len(beside)} others of {key}"
                broken.append(checking.Broken("I26 limits hold", each.job_id, problem))
            running.append(each)
    return broken


def i27_two_in_one_scope(
    changes: Iterable[Changed], scope_of: Callable[[int], str | None]
) -> list[checking.Broken]:
    """Returns the jobs that appeared while another one of their scope was not over."""
    broken: list[checking.Broken] = []
    holders: dict[str, int] = {}
    for change in sorted(changes, key=lambda each: each.at):
        row = change.after or change.before
        if row is None or (scope := scope_of(row.id)) is None:
            continue
        if change.before is None and (holder := holders.get(scope)) is not None:
            problem = f"job {holder} had {scope} and was not over"
            broken.append(checking.Broken("I27 one in a scope", row.id, problem))
        if change.after is None or change.after.state.is_final:
            holders.pop(scope, None)
        else:
            holders[scope] = row.id
    return broken


def i28_begun_in_a_pause(
    executions: Iterable[checking.Execution],
    pauses: Sequence[Pause],
    is_of_queue: Callable[[int], bool],
) -> list[checking.Broken]:
    """Returns the executions that began while their queue was paused for certain."""
    return [
        checking.Broken("I28 a pause holds", each.job_id, f"it began at {each.began:.3f}: {pause}")
        for each in executions
        for pause in pauses
        if pause.began < each.began < pause.ended and is_of_queue(each.job_id)
    ]


@dataclass(frozen=True)
class Schedule:
    """What the database counted of a schedule's ticks."""

    passed: float
    """How many there were."""
    runs: int
    skipped: int


def i29_ticks(ticks: Mapping[int, float], schedule: Schedule) -> list[checking.Broken]:
    """Returns the jobs whose tick is another one's or none, and what the counts do not account for.

    Args:
        ticks: of each job of the schedule its tick, in seconds.
        schedule: what is counted.
    """
    rule = "I29 a tick is one job or skipped"
    broken: list[checking.Broken] = []
    in_order = sorted(ticks.items(), key=lambda named: named[1])
    for (_, one), (job_id, other) in itertools.pairwise(in_order):
        apart = (other - one) / EVERY_S
        if round(apart) < 1 or abs(apart - round(apart)) > 1e-3:
            problem = f"its tick is {other - one:g} s after another one's"
            broken.append(checking.Broken(rule, job_id, problem))
    if (len(ticks), len(ticks) + schedule.skipped) != (schedule.runs, round(schedule.passed)):
        broken.append(checking.Broken(rule, 0, f"there are {len(ticks)} jobs of {schedule}"))
    return broken
