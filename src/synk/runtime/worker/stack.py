"""Where a job is in its code: written when its process is killed, or told when somebody asks."""

from __future__ import annotations

import faulthandler
import itertools
import signal
import traceback
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import types
    from collections.abc import Container

STACK_SIGNAL: Final = signal.SIGUSR2
"""Writes all threads' stacks to the status page's file, then ends the process."""

ASK_SIGNAL: Final = signal.SIGRTMIN + 5
"""Tells the worker to look at what it is asked: of the signals that hardly anything else uses."""

_FRAMES_MAX: Final = 200


def end_with_stack(fd: int) -> None:
    """Has `STACK_SIGNAL` write all threads' stacks to *fd*, and end the process."""
    # Anew, whatever others have made of the signal since.
    faulthandler.unregister(STACK_SIGNAL)
    # chain: after the dump the signal's default action ends the process, so that one signal
    # gives the stack and the death, and the death says that the stack is complete.
    faulthandler.register(STACK_SIGNAL, file=fd, all_threads=True, chain=True)


def let_stack_go() -> None:
    """Has the signal be an ordinary one again."""
    faulthandler.unregister(STACK_SIGNAL)


def stack_of_handler(frame: types.FrameType, own_files: Container[str]) -> str:
    """Returns the handler's frames, the most recent call last."""
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=_FRAMES_MAX)
    handlers = itertools.takewhile(lambda each: each.filename not in own_files, frames)
    return "".join(traceback.format_list(list(handlers)[::-1]))
