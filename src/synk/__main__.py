"""``python -m synk``, and ``synk``: the command line."""

from __future__ import annotations

import signal


def main() -> None:
    """Runs the command line and exits.

    Ctrl-C ends the process while modules are imported, by the kernel: as an exception it would be
    lost in a callback of Python's import system, and the command would go on.
    """
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from synk.cli import main as run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
