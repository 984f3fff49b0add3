"""``synk stack``: where a running job is; its supervisor is asked through the database."""

from __future__ import annotations

import click

from synk.cli.options import schema_option, storage_of, storage_option


@click.command()
@click.argument("job_id", type=int, metavar="ID")
@storage_option
@schema_option
def stack(job_id: int, storage: str | None, schema: str) -> None:
    """Show where a running job is in its code.

    With py-spy installed, also in C code.
    """
    from synk.client import Client  # noqa: PLC0415 - `--help` needs no client

    with storage_of(storage, schema) as database:
        text = Client(storage=database).stack(job_id)
    if text is None:
        click.echo(f"synk: job {job_id} does not run", err=True)
        raise click.exceptions.Exit(1)
    click.echo(text.rstrip("\n"))
