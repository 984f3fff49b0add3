"""A table of periodic jobs: when each ticks, and what became of its ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from synk.errors import ConfigurationError
from synk.show.values import duration, plain, when

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from synk.periodic import Schedule


def periodic_table(schedules: Iterable[Schedule], now: dt.datetime) -> Table:
    """Returns a line for each, with times as seen from *now*."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("name", "ticks", "zone"):
        table.add_column(heading, overflow="fold")
    for heading in ("next", "last", "last job", "jobs", "skipped"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for each in schedules:
        table.add_row(
            plain(each.name),
            plain(each.cron or f"every {duration(each.every)}"),
            plain(each.tz),
            _next(each, now),
            when(each.last_at, now),
            "-" if each.last_job_id is None else str(each.last_job_id),
            f"{each.runs:,}",
            f"{each.skipped:,}",
            _remarks(each),
        )
    return table


def _next(schedule: Schedule, now: dt.datetime) -> str:
    if schedule.paused_at is not None:
        return "-"
    try:
        return when(schedule.first_tick(), now)
    except ConfigurationError:
        return "never"


def _remarks(schedule: Schedule) -> str:
    remarks = ["paused"] if schedule.paused_at is not None else []
    if schedule.undeclared:
        remarks.append("undeclared")
    return ", ".join(remarks)
