"""What the benchmarks share: a fresh server, the machine's facts, and how figures are shown."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from rich.console import Console
from rich.table import Table

import synk
from synk.storage.embedded import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence


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


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "cpus": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "synk": metadata.version("synk"),
        "psycopg": metadata.version("psycopg"),
    }


def show(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str] = ()
) -> None:
    """Prints one table, what there is to say of it, and the machine under it."""
    console = Console()
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for note in notes:
        console.print(note)
    console.print(", ".join(f"{name} {text}" for name, text in machine().items()), style="dim")


def write_json(path: Path | None, settings: object, figures: object) -> None:
    """Writes the figures to *path*, if there is one, with what they were measured on."""
    if path is not None:
        content = {"machine": machine(), "settings": settings, "figures": figures}
        path.write_text(json.dumps(content, indent=2) + "\n")
