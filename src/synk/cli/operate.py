"""``synk start``, ``migrate`` and ``demo``: what runs for a while, or makes the tables."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import logging
import sys
import traceback
import zipfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synk.cli.first_process import stay_behind_as_first_process
from synk.cli.options import DEFAULT_SCHEMA, SchemaOption, StorageOption, storage_of
from synk.errors import ConfigurationError, SynkError

if TYPE_CHECKING:
    from synk.client import Client

_LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def add_to(app: typer.Typer) -> None:
    """Adds the commands."""

    @app.command()
    def start(
        target: Annotated[
            str, typer.Argument(metavar="MODULE:CLIENT", help="Such as myapp.jobs:client.")
        ],
        *,
        processes: Annotated[
            int | None, typer.Option(min=1, help="Worker processes; by default one a CPU.")
        ] = None,
        queue: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME[=N]", help="Serve only this queue, N jobs at once."),
        ] = None,
        app_dir: Annotated[
            Path | None,
            typer.Option(help="The folder that the module is in; by default the current one."),
        ] = None,
        log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")] = "INFO",
    ) -> None:
        """Run a supervisor for a client with queues and workers.

        The exit status is 75 if outcomes could not be stored at the end: those jobs run again.
        Its memory is closed to jobs, which run as the same user: look into it as root.
        """
        if sys.platform == "linux":
            from synk.runtime import linux  # noqa: PLC0415 - `--help` needs no supervisor

            # Before the first process parts in two: both were given the database's password.
            linux.close_memory()
        stay_behind_as_first_process()
        level = log_level.upper()
        if level not in _LEVELS:
            raise ConfigurationError("--log-level", log_level, f"must be one of {_LEVELS}")
        logging.basicConfig(format=_LOG_FORMAT, level=level)
        raise typer.Exit(
            served(configured(loaded(target, app_dir or Path.cwd()), processes, queue or []))
        )

    @app.command()
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
        database = storage_of(storage, schema)
        for name in database.migrate(roles=not no_roles, tell=_told) or ["nothing to do"]:
            typer.echo(f"{database.describe()}: {name}")
        database.close()

    @app.command()
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
        from synk.cli.look import console  # noqa: PLC0415 - rich takes its time to load
        from synk.demo.run import Demo  # noqa: PLC0415 - as above

        if folder is not None and not folder.is_dir():
            raise ConfigurationError("folder", str(folder), "is no folder")
        raise typer.Exit(Demo(console(), storage or "embedded", folder, processes).run())

    _ = (start, migrate, demo)


def _told(line: str) -> None:
    typer.echo(f"synk: {line}", err=True)


def served(client: Client) -> int:
    """Runs a supervisor until it is told to stop; returns the exit status."""
    from synk.cli.ending import Ending  # noqa: PLC0415 - `--help` needs no supervisor

    ending = Ending()
    client.telemetry.subscribe(ending.follow, successes=False)
    client.start()
    client.close()
    return ending.status


def loaded(target: str, folder: Path) -> Client:
    """Returns the client that *target*, ``module:name``, names; *folder* is searched too.

    Raises:
        ConfigurationError: there is no such module or name, or it is no client.
    """
    from synk.client import Client  # noqa: PLC0415 - `--help` needs no driver

    module_name, separator, name = target.partition(":")
    if not separator or not module_name or not name:
        raise ConfigurationError("client", target, "must be MODULE:NAME, as in myapp.jobs:client")
    _look_in(folder)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _not_imported(module_name, error) from error
        where = f"there is no module {error.name} in {folder}, nor where Python looks for modules"
        way_out = "--app-dir names the folder that it is in"
        raise ConfigurationError("client", target, f"{where}: {way_out}") from None
    except SynkError:
        raise
    except (Exception, SystemExit) as error:
        raise _not_imported(module_name, error) from error
    module = found
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Client):
        raise ConfigurationError("client", target, _no_client(module, name, found))
    return found


def _look_in(folder: Path) -> None:
    """Has the app's folder searched for modules, but after the standard library.

    So a file of the user's that is called signal.py hides nothing that synk needs.
    """
    from synk.runtime import loading  # noqa: PLC0415 - `--help` needs no supervisor

    if not folder.is_dir() and not zipfile.is_zipfile(folder):
        raise ConfigurationError("--app-dir", str(folder), "is no folder")
    here = str(folder.resolve())
    sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
    standard = loading.standard_library()
    last = max((at for at, entry in enumerate(sys.path) if entry in standard), default=-1)
    sys.path.insert(last + 1, here)


def _no_client(module: ModuleType, name: str, found: object) -> str:
    """Returns what is wrong with the name, and which one is meant perhaps."""
    from synk.client import Client  # noqa: PLC0415 - `--help` needs no driver
    from synk.runtime import loading  # noqa: PLC0415 - as above

    where = f"{module.__name__} ({getattr(module, '__file__', None) or 'built in'})"
    rival = loading.rival_of(module.__name__)
    if rival is not None:
        return f"is no synk.Client: {where} is another module than your {rival}: rename that"
    if found is not None:
        return f"is no synk.Client but of type {type(found).__name__}: {found!r:.200}"
    names = vars(module)
    clients = [each for each, value in names.items() if isinstance(value, Client)]
    meant = difflib.get_close_matches(name, clients, 1) or clients[:1]
    hint = f"; did you mean {module.__name__}:{meant[0]}?" if meant else ""
    return f"is no synk.Client: {where} has no {name}{hint}"


def _not_imported(module_name: str, error: BaseException) -> SynkError:
    """Returns the problem in one line, with the place where it was raised."""
    from synk.runtime import loading  # noqa: PLC0415 - as above

    text = " ".join(traceback.format_exception_only(error)[-1].split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    hints = "".join(f"; {hint}" for hint in loading.shadow_hints(error))
    return SynkError(
        f"cannot import {module_name}: {text} ({place.filename}:{place.lineno}){hints}"
    )


def configured(client: Client, processes: int | None, queues: list[str]) -> Client:
    """Returns *client* with the settings of the command line.

    Raises:
        ConfigurationError: a queue's number is none.
    """
    if processes is not None:
        client.engine = dataclasses.replace(client.engine, processes=processes)
    if queues and not client.registry.kinds:
        raise ConfigurationError("--queue", queues, "this client has no worker: give it workers=")
    if queues:
        client.queues = dict(_queue(client, text) for text in queues)
    return client


def _queue(client: Client, text: str) -> tuple[str, Any]:
    from synk.config import QueueConfig  # noqa: PLC0415 - as above

    name, separator, number = text.partition("=")
    if not name or (separator and not number.isdecimal()):
        raise ConfigurationError("--queue", text, "must be NAME or NAME=NUMBER")
    if client.queues and name not in client.queues:
        known = ", ".join(client.queues)
        raise ConfigurationError("--queue", name, f"this client has no such queue; it has: {known}")
    queue = client.queues.get(name, QueueConfig())
    return name, dataclasses.replace(queue, max_workers=int(number)) if separator else queue
