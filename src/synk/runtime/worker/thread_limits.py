"""How many threads BLAS and OpenMP use in a job, where ``threadpoolctl`` is installed.

They are told by call: a variable such as ``OMP_NUM_THREADS`` is read when a library is loaded, and
workers are forked with their libraries. One that a job is the first to load sees how many CPUs the
process may run on at that moment, which are the job's; after the job it is told what others have.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, Final

_MODULE: Final = "threadpoolctl"


class ThreadLimits:
    """The thread pools of one worker process; without ``threadpoolctl`` nothing happens."""

    def __init__(self) -> None:
        self._before: dict[str, int] | None = None
        """By the library's file, what each was set to before the job; None: nothing was changed."""

    def set(self, count: int) -> None:
        """Has every library that is loaded use so many threads."""
        if importlib.util.find_spec(_MODULE) is None:
            return
        self._before = {}
        for library in _libraries():
            self._before[library.filepath] = library.num_threads
            library.set_num_threads(count)

    def restore(self, usual: int) -> None:
        """Sets back what `set` changed, and what was loaded since to the *usual* number."""
        if self._before is None:
            return
        before, self._before = self._before, None
        for library in _libraries():
            library.set_num_threads(before.get(library.filepath, usual))


def _libraries() -> list[Any]:
    # Anew each time: what is loaded changes.
    return importlib.import_module(_MODULE).ThreadpoolController().lib_controllers
