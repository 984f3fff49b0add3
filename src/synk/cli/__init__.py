"""The command line: options in, one client call, a table or a line out.

Every error that synk raises is one line on standard error: status 2 for a wrong use, 1 for the
rest.
"""

from __future__ import annotations

import sys

import typer

from synk.cli import change, look, operate
from synk.errors import ConfigurationError, InvalidJob, SynkError

app = typer.Typer(
    name="synk",
    help="A durable job queue on PostgreSQL whose jobs run in worker processes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
operate.add_to(app)
look.add_to(app)
change.add_to(app)


def main() -> None:
    """Runs the command line and exits."""
    try:
        app()
    except (ConfigurationError, InvalidJob) as error:
        _complain(error, 2)
    except SynkError as error:
        _complain(error, 1)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough.
        sys.stderr.close()
        sys.exit(0)


def _complain(error: SynkError, status: int) -> None:
    print(f"synk: {error}", file=sys.stderr)  # noqa: T201 - the command line's own output
    sys.exit(status)
