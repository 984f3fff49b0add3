"""What is imported before the forks, and what of it each fork gets anew."""

from __future__ import annotations

import faulthandler
import functools
import gc
import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synk.runtime.forkserver import descriptors, monkey_patches
from synk.runtime.forkserver.fork_safety import ForkSafety
from synk.runtime.worker import handler_modules, reseeding

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(slots=True)
class Imported:
    """What came of the imports."""

    problems: dict[str, str] = field(default_factory=dict[str, str])
    """Module -> why it cannot be used in a process that forks."""
    warnings: list[str] = field(default_factory=list[str])
    to_reopen: list[int] = field(default_factory=list[int])
    generators: list[Callable[[], object]] = field(default_factory=list["Callable[[], object]"])

    def take_own(self) -> None:
        """In a process that was forked: gives it what the others must not share or repeat."""
        descriptors.reopen(self.to_reopen)
        reseeding.renew(self.generators)


def load(settings: dict[str, Any]) -> Imported:
    """Imports the program and the modules."""
    handler_modules.prepare_paths(settings["prepare"])
    modules, withheld = settings["modules"], settings["withheld"]
    if modules is None:
        return Imported()
    left = ForkSafety()
    loads = {"__main__": lambda: handler_modules.import_main(settings["prepare"])}
    loads |= {name: functools.partial(importlib.import_module, name) for name in modules}
    for name, load in loads.items():
        problem = handler_modules.problem_of(load, withheld)
        # A fork would wait for ever for the thread of this, which it does not have.
        faulthandler.cancel_dump_traceback_later()
        gc.collect()
        problem = problem or monkey_patches.problem() or left.problem_of(name)
        if problem is not None:
            return Imported(problems={name: problem})
    found, seeded = reseeding.generators(), reseeding.given_seeds()
    # What was imported is never collected, so the pages stay shared with the workers.
    gc.freeze()
    return Imported(warnings=[*left.warnings, *seeded], to_reopen=left.to_reopen, generators=found)
