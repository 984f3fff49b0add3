"""How figures are shown, and kept.

``--json FILE`` keeps all values, with the machine, the versions and the settings; `report.py` draws
such files.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import statistics
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from figures import FLOOR, SYNK
from machine import machine

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from figures import Figure, Results


def number(figure: float) -> str:
    """Three digits, or all before the point."""
    if figure == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(figure))))
    return f"{figure:,.{min(digits, 3)}f}"


def show(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Prints one table, what there is to say of it, and the machine under it."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    facts = ", ".join(f"{name} {text}" for name, text in machine().items())
    console.print(facts, style="dim", highlight=False)


def publish(
    options: argparse.Namespace,
    benchmark: str,
    title: str,
    results: Results,
    targets: Mapping[str, float],
    notes: Sequence[str] = (),
) -> None:
    """Shows the figures, and writes them to the file that *options* name, if any."""
    show_results(title, results, targets, notes)
    write_results(options, benchmark, results, targets)


def show_results(
    title: str, results: Results, targets: Mapping[str, float], notes: Sequence[str] = ()
) -> None:
    """Prints all figures with their spread, beside the floor and what synk is to reach."""
    rows: list[list[str]] = []
    before = ""
    for figure in sorted(results.figures.values(), key=_place(results)):
        ratios = results.ratios(figure)
        target = targets.get(figure.quantity) if figure.of == SYNK else None
        rows.append(
            [
                figure.quantity if figure.quantity != before else "",
                figure.of,
                number(figure.median),
                number(min(figure.values)),
                number(max(figure.values)),
                number(statistics.median(ratios)) if ratios else "",
                "" if target is None else number(target),
            ]
        )
        before = figure.quantity
    headings = ("", "of", "median", "lowest", "highest", "/ floor", "to reach")
    show(title, headings, rows, notes)


def _place(results: Results) -> Callable[[Figure], tuple[int, int, float]]:
    """Quantities as they were met first; in each synk, then the others, the floor last."""
    quantities = list(dict.fromkeys(quantity for quantity, _ in results.figures))
    rank = {SYNK: 0, FLOOR: 2}
    return lambda figure: (
        quantities.index(figure.quantity),
        rank.get(figure.of, 1),
        -figure.median,
    )


def write_json(path: Path | None, settings: object, figures: object) -> None:
    """Writes the figures to *path*, if there is one, with what they were measured on."""
    if path is not None:
        content = {"machine": machine(), "settings": settings, "figures": figures}
        path.write_text(json.dumps(content, indent=2) + "\n")


def write_results(
    options: argparse.Namespace, benchmark: str, results: Results, targets: Mapping[str, float]
) -> None:
    """Writes everything to the file that *options* name, if any, as `report.py` reads it."""
    path: Path | None = options.json
    if path is None:
        return
    content = {
        "benchmark": benchmark,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "facts": results.facts,
        "settings": {name: given for name, given in vars(options).items() if name != "json"},
        "targets": dict(targets),
        "figures": list(_as_json(results)),
        "samples": results.samples,
    }
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")


def _as_json(results: Results) -> Iterable[dict[str, object]]:
    for figure in results.figures.values():
        ratios = results.ratios(figure)
        yield {
            "quantity": figure.quantity,
            "of": figure.of,
            "median": figure.median,
            "lowest": min(figure.values),
            "highest": max(figure.values),
            "values": figure.values,
            "to_floor": statistics.median(ratios) if ratios else None,
        }
