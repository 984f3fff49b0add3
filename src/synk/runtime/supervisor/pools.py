"""The pool of a supervisor: by its settings, its workers, and the machine that it is on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from synk import cpus, memory
from synk.core.limits import limits_of
from synk.core.pool import Pool
from synk.core.weights import Budget
from synk.errors import ConfigurationError
from synk.weight import shown_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.config import EngineConfig, QueueConfig
    from synk.registry import Registry
    from synk.weight import Weight


def pool_of(engine: EngineConfig, queues: Mapping[str, QueueConfig], registry: Registry) -> Pool:
    """Returns the pool that decides for a supervisor.

    Raises:
        ConfigurationError: the jobs of a kind take more than this supervisor may use.
    """
    budget = _budget(engine, registry.weights) if registry.weights else None
    return Pool(engine, limits_of(queues), limited=registry.limited_kinds, budget=budget)


def _budget(engine: EngineConfig, weights: Mapping[str, Weight]) -> Budget:
    cores = cpus.available() if engine.cores is None else engine.cores
    bytes_there = memory.available() if engine.memory is None else engine.memory
    if bytes_there is None:
        bytes_there = sys.maxsize
    for kind, weight in weights.items():
        if (weight.cores or 0) > cores:
            problem = f"is more than the {cores} that this supervisor may use"
            raise ConfigurationError(f"workers[{kind!r}].cores", weight.cores, problem)
        if weight.memory > bytes_there:
            problem = f"is more than the {shown_bytes(bytes_there)} that this supervisor may use"
            raise ConfigurationError(
                f"workers[{kind!r}].memory", shown_bytes(weight.memory), problem
            )
    return Budget(
        cores=cores,
        memory=bytes_there,
        weights=weights,
        processes=engine.processes,
        cpus=os.sched_getaffinity(0),
    )
