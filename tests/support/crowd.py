"""Calls that begin at the same moment, a thread each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LONG_S: Final = 60.0


def all_at_once(calls: Sequence[Callable[[], object]]) -> list[Exception]:
    """Makes all *calls*, and waits for their ends; returns what went wrong."""
    start = threading.Barrier(len(calls), timeout=_LONG_S)
    problems: list[Exception] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            start.wait()
            call()
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=guarded, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_LONG_S)
        if thread.is_alive():
            problems.append(TimeoutError(f"a call took longer than {_LONG_S} s"))
    return problems
