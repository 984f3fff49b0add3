"""``synk demo``: see `synk.demo`."""

from __future__ import annotations

from pathlib import Path

import click

from synk.cli.options import storage_option
from synk.errors import ConfigurationError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option(
    "--processes", type=click.IntRange(min=1), help="Worker processes; by default one a CPU."
)
@storage_option
def demo(folder: Path | None, processes: int | None, storage: str | None) -> None:
    """Run the main job on real files, some of which misbehave.

    They are those in FOLDER, by default Python's standard library.
    """
    from synk.demo.run import Demo  # noqa: PLC0415 - rich takes its time to load
    from synk.show.console import new_console  # noqa: PLC0415 - as above

    if folder is not None and not folder.is_dir():
        raise ConfigurationError("folder", str(folder), "is no folder")
    raise click.exceptions.Exit(Demo(new_console(), storage or "embedded", folder, processes).run())
