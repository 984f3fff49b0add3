"""What the benchmarks share: a fresh server, repetitions in turn, and how figures are shown.

Every script is quick by default and long with ``--full``. It measures each contestant in turn, the
floor among them, as often as ``--rounds`` says, so that a slow moment of the machine meets all of
them, and reports medians with their spread. ``--json FILE`` keeps all values, with the machine, the
versions and the settings; `report.py` draws such files.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psutil
import psycopg
from rich.console import Console
from rich.table import Table

import synk
from synk.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

CPUS: Final = len(os.sched_getaffinity(0))

FLOOR: Final = "floor"
"""The contestant that does the least that can be done; the others are compared with it."""

SYNK: Final = "synk"

SERVER_SETTINGS: Final = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")


# -- the server -----------------------------------------------------------------------------------


@contextmanager
def embedded_server() -> Generator[str]:
    """Gives the DSN of a new embedded server with PostgreSQL's defaults; it goes afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="synk-bench-"))
    folder.chmod(0o755)  # the server may run as another user
    try:
        with EmbeddedServer(folder / "server") as server:
            yield server.start()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def fresh_schema(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA IF EXISTS synk CASCADE")
    synk.PostgresStorage(dsn).migrate()


def value(connection: psycopg.Connection[Any], text: str) -> Any:
    row = connection.execute(text.encode()).fetchone()
    return None if row is None else row[0]


def server_facts(dsn: str) -> dict[str, object]:
    """The server's version and the settings that matter to these figures."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        names = ("server_version", *SERVER_SETTINGS)
        return {name: value(connection, f"SHOW {name}") for name in names}


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "cpus": CPUS,
        "cpu": cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
        "synk": metadata.version("synk"),
        "psycopg": metadata.version("psycopg"),
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@contextmanager
def serving(
    dsn: str, variables: Mapping[str, str] | None = None, *, processes: int = CPUS
) -> Generator[None]:
    """Serves the jobs of `jobs.py` with `synk start`, in a process of its own."""
    given = {"SYNK_BENCH_DSN": dsn, "SYNK_BENCH_PROCESSES": str(processes)}
    command = [sys.executable, "-m", "synk", "start", "jobs:client"]
    with tempfile.TemporaryFile() as log:
        supervisor = subprocess.Popen(
            command,
            cwd=Path(__file__).parent,
            env={**os.environ, **given, **(variables or {})},
            stdout=log,
            stderr=log,
        )
        try:
            yield
            if supervisor.poll() is not None:
                log.seek(0)
                raise SystemExit(f"the supervisor has ended: {log.read().decode()[-2000:]}")
        finally:
            supervisor.terminate()
            supervisor.wait()


# -- options --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """A setting that is one thing in a quick run and another in a full one."""

    quick: Any
    full: Any
    help: str


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose --help is the script's docstring, without its line of usage."""
    summary, _, rest = (doc or "").partition("\n\n")
    paragraphs = [part for part in rest.split("\n\n") if not part.startswith("    ")]
    parser = argparse.ArgumentParser(
        description=summary,
        epilog="\n\n".join(paragraphs),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="the long run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all values there")
    return parser


def parse(parser: argparse.ArgumentParser, sizes: Mapping[str, Size]) -> argparse.Namespace:
    """Adds the *sizes* and parses; those that are not given follow --full."""
    for name, size in sizes.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(size.quick),
            help=f"{size.help} ({size.quick:,}; {size.full:,} with --full)",
        )
    options = parser.parse_args()
    for name, size in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, size.full if options.full else size.quick)
    return options


def settings_of(options: argparse.Namespace) -> dict[str, object]:
    return {name: given for name, given in vars(options).items() if name != "json"}


# -- figures --------------------------------------------------------------------------------------


@dataclass
class Figure:
    """One quantity of one contestant: a value for each repetition."""

    quantity: str
    """With its unit, as in ``drain, jobs/s``."""
    of: str
    values: list[float] = field(default_factory=list[float])

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass
class Results:
    """All that a script has measured."""

    figures: dict[tuple[str, str], Figure] = field(default_factory=dict[tuple[str, str], Figure])
    samples: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """Single values behind a percentile, to be drawn as a distribution."""
    facts: dict[str, object] = field(default_factory=dict[str, object])
    """About what was measured: versions, settings."""

    def add(self, of: str, values: Mapping[str, float]) -> None:
        for quantity, number in values.items():
            self.figures.setdefault((quantity, of), Figure(quantity, of)).values.append(number)

    def ratios(self, figure: Figure, to: str = FLOOR) -> list[float]:
        """Of each repetition to the contestant *to* in the same one; empty: there is none."""
        other = self.figures.get((figure.quantity, to))
        if other is None or other is figure:
            return []
        pairs = zip(figure.values, other.values, strict=False)
        return [mine / theirs for mine, theirs in pairs if theirs]


Contestants: TypeAlias = "Mapping[str, Callable[[], Mapping[str, float]]]"
"""Name -> a measurement, which gives a value for each quantity."""


def interleaved(contestants: Contestants, rounds: int, results: Results | None = None) -> Results:
    """Measures all in turn, *rounds* times, every other time backwards."""
    found = Results() if results is None else results
    with Console(stderr=True).status("") as status:
        for number in range(rounds):
            for name in list(contestants)[:: -1 if number % 2 else 1]:
                status.update(f"round {number + 1} of {rounds}: {name}")
                found.add(name, contestants[name]())
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that *share* of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread_of(name: str, values_ms: Sequence[float]) -> dict[str, float]:
    """The three figures that say how long something takes."""
    return {
        f"{name}: p50, ms": percentile(values_ms, 0.5),
        f"{name}: p99, ms": percentile(values_ms, 0.99),
        f"{name}: max, ms": max(values_ms),
    }


# -- showing --------------------------------------------------------------------------------------


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
    path: Path | None,
    benchmark: str,
    results: Results,
    settings: object,
    targets: Mapping[str, float],
) -> None:
    """Writes everything to *path*, if there is one, in the form that `report.py` reads."""
    if path is None:
        return
    content = {
        "benchmark": benchmark,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "facts": results.facts,
        "settings": settings,
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
