"""How long things took in a run of the chaos, from its log of faults and its history of rows."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chaos.check import Changed
    from chaos.faults import Fault
    from support.checking import Execution


def rescue_s(
    changes: Iterable[Changed], faults: Sequence[Fault], pids: Mapping[str, int]
) -> list[float]:
    """Returns, for each rescued job, the time since the latest fault of the supervisor it had."""
    found: list[float] = []
    for change in changes:
        if not change.is_rescue or change.before is None or change.before.owner is None:
            continue
        pid = pids.get(change.before.owner)
        times = [fault.at for fault in faults if fault.pid == pid and fault.at <= change.at]
        if times:
            found.append(change.at - max(times))
    return found


def recovery_s(
    changes: Iterable[Changed], executions: Iterable[Execution], faults: Iterable[Fault]
) -> dict[str, list[float]]:
    """Returns, by the kind of fault, the times until a job completed that began after it."""
    completed = _completed(changes, executions)
    began = [each[0] for each in completed]
    # The earliest completion among all that began at this one or later.
    earliest = list(itertools.accumulate((at for _, at in reversed(completed)), min))[::-1]
    found: dict[str, list[float]] = {}
    for fault in faults:
        place = bisect_right(began, fault.at)
        if place < len(earliest):
            found.setdefault(fault.name, []).append(earliest[place] - fault.at)
    return found


def completed_a_second(changes: Iterable[Changed], phase: tuple[float, float]) -> float:
    """Returns how many jobs were completed in a second of the given time."""
    began, ended = phase
    return sum(each.completes and began <= each.at < ended for each in changes) / (ended - began)


def _completed(
    changes: Iterable[Changed], executions: Iterable[Execution]
) -> list[tuple[float, float]]:
    """Returns when the executions began that completed their job, and when that was stored."""
    began = {(each.job_id, each.attempt): each.began for each in executions if each.is_whole}
    rows = [(each.after, each.at) for each in changes if each.completes]
    pairs = [(began.get((row.id, row.attempt)), at) for row, at in rows if row is not None]
    return sorted((start, at) for start, at in pairs if start is not None)
