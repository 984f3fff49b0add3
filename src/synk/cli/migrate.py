"""``synk migrate``: makes and upgrades the tables, or prints the SQL that does."""

from __future__ import annotations

from typing import Annotated

import typer

from synk.cli.options import DEFAULT_SCHEMA, SchemaOption, StorageOption, storage_of


def migrate(
    *,
    sql: Annotated[bool, typer.Option("--sql", help="Print the SQL, change nothing.")] = False,
    no_roles: Annotated[bool, typer.Option("--no-roles", help="Make no roles.")] = False,
    storage: StorageOption = None,
    schema: SchemaOption = DEFAULT_SCHEMA,
) -> None:
    """Create or upgrade synk's tables."""
    if sql:
        from synk.storage.script import script  # noqa: PLC0415 - `--help` needs no driver

        typer.echo(script(schema, with_roles=not no_roles), nl=False)
        return
    with storage_of(storage, schema) as database:
        for name in database.migrate(roles=not no_roles, tell=_told) or ["nothing to do"]:
            typer.echo(f"{database.describe()}: {name}")


def _told(line: str) -> None:
    typer.echo(f"synk: {line}", err=True)
