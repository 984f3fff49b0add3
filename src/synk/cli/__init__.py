"""The command line: options in, one client call, a table or a line out.

Every error that synk raises is one line on standard error: status 2 for a wrong use, 1 for the
rest. Only the command that is meant is imported: most are over in less time than it takes to load
everything.
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Final

import click

from synk import __version__
from synk.cli.options import DSN_VARIABLE
from synk.errors import InvalidValue, StorageUnavailable, SynkError

_CHANGES: Final = ("cancel", "retry", "delete", "ready")
"""They are in one module."""

_COMMANDS: Final = (
    *("start", "migrate", "demo", "dsn", "jobs", "job", "top", "queues", "drain", "stack", "stats"),
    "periodic",
    "limits",
    *_CHANGES,
)
"""In the order of the help; each of the others is in the module of its name."""


class _Commands(click.Group):
    """Imports the command that is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Returns the names of all, in the order of the help."""
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - as above
        cmd_name: str,
    ) -> click.Command | None:
        """Returns the command of this name; None: there is none."""
        if cmd_name not in _COMMANDS:
            return None
        file = "cancel_retry_delete_ready" if cmd_name in _CHANGES else cmd_name
        return getattr(importlib.import_module(f"synk.cli.{file}"), cmd_name)


def main() -> None:
    """Runs the command line and exits; Ctrl-C is an exception here, but for ``start``."""
    try:
        sys.exit(_commands(prog_name="synk", standalone_mode=False) or 0)
    except click.ClickException as error:
        _complain_of_use(error)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except StorageUnavailable as error:
        hint = f"start the server, or check --storage or {DSN_VARIABLE}"
        _complain(f"{error} ({hint})", 1)
    except InvalidValue as error:
        _complain(error, 2)
    except SynkError as error:
        _complain(error, 1)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(0)


@click.group(
    "synk",
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A durable job queue on PostgreSQL whose jobs run in worker processes.",
)
@click.version_option(__version__, message="synk %(version)s", help="Print the version and end.")
@click.pass_context
def _commands(context: click.Context) -> None:
    if context.invoked_subcommand != "start" and signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _complain_of_use(error: click.ClickException) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "synk"
    message = " ".join(error.format_message().split()).rstrip(".")
    _complain(f"{message} (see {path} --help)", error.exit_code)


def _complain(problem: object, status: int) -> None:
    print(f"synk: {problem}", file=sys.stderr)  # noqa: T201 - the command line's own output
    sys.exit(status)
