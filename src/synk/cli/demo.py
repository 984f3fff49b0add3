"""``synk demo``: see `synk.demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synk.cli.options import StorageOption
from synk.errors import ConfigurationError


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Files to work on; by default Python's standard library."),
    ] = None,
    *,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; by default one a CPU.")
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Run the main job on real files, with jobs among them that misbehave."""
    from synk.demo.run import Demo  # noqa: PLC0415 - rich takes its time to load
    from synk.show.console import new_console  # noqa: PLC0415 - as above

    if folder is not None and not folder.is_dir():
        raise ConfigurationError("folder", str(folder), "is no folder")
    raise typer.Exit(Demo(new_console(), storage or "embedded", folder, processes).run())
