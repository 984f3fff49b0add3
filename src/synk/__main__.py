"""``python -m synk``, and ``synk``: the command line."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from typing import Final

_LASTING: Final = (["start"], ["demo"], ["top"])


def main() -> None:
    """Runs the command line and exits.

    Ctrl-C ends the process while modules are imported, by the kernel: as an exception it would be
    lost in a callback of Python's import system, and the command would go on. Garbage is not looked
    for, not at the end either, where a command is soon over: that was a fifth of its time.
    """
    if sys.argv[1:2] not in _LASTING:
        gc.disable()
        atexit.register(gc.freeze)
    if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from synk.cli import main as run  # noqa: PLC0415 - see above

    run()


if __name__ == "__main__":
    main()
