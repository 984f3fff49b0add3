"""``synk stack``: where a running job is; its supervisor is asked through the database."""

from __future__ import annotations

from typing import Annotated

import typer

from synk.cli.options import DEFAULT_SCHEMA, SchemaOption, StorageOption, storage_of


def stack(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="A running job's id.")],
    *,
    storage: StorageOption = None,
    schema: SchemaOption = DEFAULT_SCHEMA,
) -> None:
    """Show where a running job is in its code; with py-spy installed, also in C code."""
    from synk.client import Client  # noqa: PLC0415 - `--help` needs no client

    with storage_of(storage, schema) as database:
        text = Client(storage=database).stack(job_id)
    if text is None:
        typer.echo(f"synk: job {job_id} does not run", err=True)
        raise typer.Exit(1)
    typer.echo(text.rstrip("\n"))
