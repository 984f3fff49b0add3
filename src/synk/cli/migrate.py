"""``synk migrate``: makes and upgrades the tables, or prints the SQL that does."""

from __future__ import annotations

import click

from synk.cli.options import schema_option, storage_of, storage_option


@click.command()
@click.option("--sql", is_flag=True, help="Print the SQL, change nothing.")
@click.option("--no-roles", is_flag=True, help="Make no roles.")
@storage_option
@schema_option
def migrate(*, sql: bool, no_roles: bool, storage: str | None, schema: str) -> None:
    """Create or upgrade synk's tables."""
    if sql:
        from synk.storage.script import script  # noqa: PLC0415 - `--help` needs no driver

        click.echo(script(schema, with_roles=not no_roles), nl=False)
        return
    with storage_of(storage, schema) as database:
        for name in database.migrate(roles=not no_roles, tell=_told) or ["nothing to do"]:
            click.echo(f"{database.describe()}: {name}")


def _told(line: str) -> None:
    click.echo(f"synk: {line}", err=True)
