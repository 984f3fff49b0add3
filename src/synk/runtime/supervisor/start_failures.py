"""What an operator is told of a worker process that was never ready for jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk.core import stack_text
from synk.core.verdicts import death

if TYPE_CHECKING:
    from synk.core.messages import Exit

_TOLD_MAX: Final = 1000
"""Characters of what an exception says."""


def late(limit_s: float, stack: str) -> str:
    """Says that a worker was killed because it took too long, and where it was."""
    return (
        f"a worker process was not ready within start_timeout ({limit_s:g} s) and was killed"
        f"{_place(stack)}. Another one is tried; raise start_timeout if on_worker_start or its "
        "imports need longer"
    )


def late_imports(limit_s: float, stack: str) -> str:
    """Says the same of the process that imports for all workers, where no worker can follow."""
    return (
        f"the handlers' modules were not imported within start_timeout ({limit_s:g} s), and the "
        f"process that imports them was killed{_place(stack)}. Raise start_timeout if they need "
        "longer"
    )


def failed(exit_: Exit) -> str:
    """Says how a worker ended that nobody killed."""
    how = _headline(exit_.problem) if exit_.problem else death(exit_, "it")[1] + _place(exit_.stack)
    return f"a worker process failed before it was ready: {how}. Another one is tried"


def _place(stack: str) -> str:
    place = stack_text.place(stack)
    return f"; it was in {place}" if place else "; where it was is not known"


def _headline(problem: str) -> str:
    """Returns what a traceback ends with, and where that was raised, in one line."""
    lines: list[str] = []
    for line in problem.splitlines():
        if line.startswith((" ", "Traceback ")):
            lines = []
        else:
            lines.append(line)
    text = "; ".join(filter(None, lines))[:_TOLD_MAX]
    place = stack_text.place_of_traceback(problem)
    return f"{text} (in {place})" if place else text
