"""The console that all is printed on, and how wide it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from rich.console import Console

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDE: Final = 10_000
"""Columns where there is no terminal: no line of a traceback is broken there."""

WIDE_ENOUGH: Final = 120
"""Columns of a terminal that has room for all that is known of a job."""


def new_console() -> Console:
    """Returns the console; where the output is no terminal, lines are not cut to 80 columns."""
    console = Console()
    return console if console.is_terminal else Console(width=200)


def columns_of(console: Console) -> int | None:
    """Returns the columns of its terminal; None: there is none, so any number."""
    return console.width if console.is_terminal else None


def put(shown: RenderableType, console: Console | None = None) -> None:
    """Prints something; where the output is no terminal, without blanks that only fill a line.

    Args:
        shown: what to print.
        console: where to print it, if not on a new one; one that is no terminal cuts no line then.
    """
    console = console or new_console()
    if console.is_terminal:
        console.print(shown)
        return
    wide = Console(width=_WIDE, file=io.StringIO(), color_system=None)
    with wide.capture() as captured:
        wide.print(shown)
    lines = captured.get().removesuffix("\n").split("\n")
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()
