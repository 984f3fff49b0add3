"""How many CPUs this process may really use, by affinity and cgroup quota."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from synk import cgroup

if TYPE_CHECKING:
    from pathlib import Path


def available(root: Path = cgroup.ROOT, own: Path = cgroup.OWN) -> int:
    """Returns the number of CPUs, at least 1: the affinity, or the tightest cgroup quota if less.

    Args:
        root: where the control groups are mounted.
        own: what says which ones this process is in.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quotas = [
        *(_quota_of_v2(folder) for folder in cgroup.folders(root=root, own=own)),
        *(_quota_of_v1(folder) for folder in cgroup.folders("cpu", root=root, own=own)),
    ]
    return max(1, min([count, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _quota_of_v2(folder: Path) -> float | None:
    text = cgroup.read(folder / "cpu.max").split()
    return _ratio(*text) if len(text) == 2 else None


def _quota_of_v1(folder: Path) -> float | None:
    quota, period = (
        cgroup.read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    )
    return _ratio(quota, period)


def _ratio(quota: str, period: str) -> float | None:
    """Returns the quota in CPUs; None for "max", -1, nothing, and what is no number."""
    if not quota.isdigit() or not period.isdigit() or int(quota) == 0 or int(period) == 0:
        return None
    return int(quota) / int(period)
