"""The command line: options in, one client call, a table or a line out.

Every error that synk raises is one line on standard error: status 2 for a wrong use, 1 for the
rest. Only the command that is meant is imported, and given to typer, which takes a while for each
option: most commands are over in less time than it takes to load everything.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Annotated, Any, Final

import typer

from synk import __version__
from synk.cli.options import DSN_VARIABLE
from synk.errors import ConfigurationError, InvalidJob, StorageUnavailable, SynkError

_CHANGES: Final = ("cancel", "retry", "delete", "ready")
"""They are in one module."""

_COMMANDS: Final = (
    *("start", "migrate", "demo", "dsn", "jobs", "job", "top", "stack", "stats"),
    *_CHANGES,
)
"""In the order of the help; each of the others is in the module of its name."""

# typer brings a copy of click or uses the installed one: its base class is found either way.
_ClickException: Final[Any] = typer.BadParameter.__mro__[2]


def main() -> None:
    """Runs the command line and exits; Ctrl-C is an exception here, but for ``start``."""
    try:
        sys.exit(_app(sys.argv[1:2])(prog_name="synk", standalone_mode=False) or 0)
    except _ClickException as error:
        _complain_of_use(error)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except StorageUnavailable as error:
        hint = f"start the server, or check --storage or {DSN_VARIABLE}"
        _complain(f"{error} ({hint})", 1)
    except (ConfigurationError, InvalidJob) as error:
        _complain(error, 2)
    except SynkError as error:
        _complain(error, 1)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(0)


def _app(meant: list[str]) -> typer.Typer:
    """Returns the command line with the one command that is meant, or with all if that is none."""
    app = typer.Typer(
        name="synk",
        help="A durable job queue on PostgreSQL whose jobs run in worker processes.",
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_root)
    for name in set(meant).intersection(_COMMANDS) or _COMMANDS:
        file = "cancel_retry_delete_ready" if name in _CHANGES else name
        app.command()(getattr(importlib.import_module(f"synk.cli.{file}"), name))
    return app


def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    if version:
        typer.echo(f"synk {__version__}")
        raise typer.Exit
    if context.invoked_subcommand != "start" and signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _complain_of_use(error: Any) -> None:
    path = error.ctx.command_path if getattr(error, "ctx", None) else "synk"
    message = " ".join(error.format_message().split()).rstrip(".")
    _complain(f"{message} (see {path} --help)", error.exit_code)


def _complain(problem: object, status: int) -> None:
    print(f"synk: {problem}", file=sys.stderr)  # noqa: T201 - the command line's own output
    sys.exit(status)
