"""Tables of numbers: what the jobs of each kind took, and what waits in each queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from synk.show.console import WIDE_ENOUGH
from synk.show.values import counted, duration, plain, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from synk.row import KindSummary


def summary_table(kinds: Iterable[KindSummary], *, width: int | None = None) -> Table:
    """Returns a line a kind: how many, and how long they took.

    Args:
        kinds: what the jobs of each kind took.
        width: columns of the terminal, as in `synk.show.jobs.job_table`.
    """
    columns: dict[str, Callable[[KindSummary], str]] = {
        "completed": lambda each: f"{each.completed:,}",
        "cancelled": lambda each: f"{each.cancelled:,}",
        "failed": lambda each: f"{each.failed:,}",
        "unfinished": lambda each: f"{each.unfinished:,}",
        "failed attempts": lambda each: f"{each.errors:,}",
        "p50": lambda each: duration(each.duration_p50),
        "p95": lambda each: duration(each.duration_p95),
        "max": lambda each: duration(each.duration_max),
        "CPU": lambda each: duration(each.cpu_time),
        "peak memory": lambda each: size(each.peak_rss_bytes),
    }
    if width is not None and width < WIDE_ENOUGH:
        for heading in ("failed attempts", "p95", "CPU", "peak memory"):
            del columns[heading]
    table = Table(box=None, header_style="bold", pad_edge=False)
    kinds = list(kinds)
    # Numbers are whole; of a kind the beginning says something too.
    widths = {
        heading: max(map(len, (*heading.split(), *map(cell, kinds))))
        for heading, cell in columns.items()
    }
    room = None if width is None else max(8, width - sum(each + 2 for each in widths.values()))
    table.add_column("kind", no_wrap=True, overflow="ellipsis", max_width=room)
    for heading, least in widths.items():
        table.add_column(heading, justify="right", min_width=least, max_width=room and least)
    for each in kinds:
        table.add_row(plain(each.kind), *(cell(each) for cell in columns.values()))
    return table


def queue_table(queues: Mapping[str, Mapping[str, int]]) -> Table:
    """Returns a line a queue: how many jobs of it may begin, and how many run."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("queue", overflow="ellipsis", no_wrap=True)
    for heading in ("available", "running"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, numbers in queues.items():
        waiting, runs = numbers["available"], numbers["running"]
        table.add_row(plain(name), counted(waiting), f"{runs:,}")
    return table
