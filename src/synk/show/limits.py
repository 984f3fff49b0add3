"""What ``synk limits`` shows: a line a limit, and below it one for each of its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from synk.show.values import duration, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.limit import Rate
    from synk.limit_status import LimitedKey, LimitStatus


def limits_table(limits: Sequence[LimitStatus]) -> Table:
    """Returns a line a limit, and one for each key."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("limit", overflow="ellipsis", no_wrap=True)
    for heading in ("at work", "waiting", "begun"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("supervisors", justify="right", no_wrap=True)
    for limit in limits:
        path = f" ({limit.declared.key})" if limit.declared and limit.declared.key else ""
        table.add_row(
            f"{plain(limit.name)}{plain(path)}",
            f"up to {_number(limit.cap.running)}",
            "",
            _rate(limit.cap.rate),
            "",
        )
        for key in limit.keys:
            table.add_row(*_cells(limit, key))
        if limit.is_cut:
            table.add_row("  ... and more keys")
    return table


def _cells(limit: LimitStatus, key: LimitedKey) -> list[str]:
    cap = limit.cap_of(key.key)
    begun = "" if cap.rate is None else f"{key.begun_in(cap.rate[1]):,} of {_rate(cap.rate)}"
    return [
        f"  {plain(key.key)}",
        f"{key.permits:,} of {_number(cap.running)}",
        f"{key.waiting:,}{'+' if key.is_more else ''}",
        begun,
        f"{len(key.owners):,}",
    ]


def _number(number: int | None) -> str:
    return "any" if number is None else f"{number:,}"


def _rate(rate: Rate | None) -> str:
    return "" if rate is None else f"{rate[0]:,} in {duration(rate[1].total_seconds())}"
