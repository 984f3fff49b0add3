"""Where code was, by the text of a stack: faulthandler's, or that of a traceback."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_FRAME: Final = re.compile(
    r'^  File "(?P<file>.*)", line (?P<line>\d+),? in (?P<function>.*)$', re.MULTILINE
)

_LIBRARY: Final = re.compile(
    r"/(site|dist)-packages/|/lib(64)?/python3(\.\d+t?)?/|/python3\d+\.zip/|^<"
)
"""In the file names of code that is nobody's own: the standard library's, and what is installed."""

_INSTALLED: Final = re.compile(r"^.*/(?:site|dist)-packages/[^/]+")
"""Where an installed package is, or a module."""


def of_user(stacks: str, machinery: Sequence[str]) -> str:
    """Returns faulthandler's text as the reader of a job's record wants it.

    Without the frames below the handler, which are always the same: the most recent call comes
    first, so a thread's part ends at our own modules. And with the other threads at the end, where
    what is too long is cut; the job's own may have a part more, its calls in C.

    Args:
        stacks: the text.
        machinery: the files of our own modules.
    """
    kept: list[str] = []
    skipping = False
    for line in stacks.splitlines():
        if not line.startswith("  File "):
            skipping = line.startswith("Extension modules:")
        elif any(f'{file}"' in line for file in machinery):
            skipping = True
        if not skipping:
            kept.append(line)
    parts = "\n".join(kept).strip().split("\n\n")
    parts.sort(key=lambda part: part.startswith("Thread 0x"))
    return "\n\n".join(parts)


def place(stack: str) -> str:
    """Says where the code was, by the innermost frame of faulthandler's text; empty: unknown."""
    if "Current thread 0x" not in stack and stack.count("Thread 0x") > 1:
        # A hundred threads are all that is shown, or it is none of Python's that crashed.
        return ""
    # Of several threads the job's comes first, and its parts end with an empty line.
    frames = list(_FRAME.finditer(stack.partition("\n\n")[0])) or list(_FRAME.finditer(stack))
    return _told(frames)


def place_of_traceback(text: str) -> str:
    """Says where an exception was raised, by its traceback; empty: unknown."""
    return _told(list(_FRAME.finditer(text))[::-1])


def _told(frames: list[re.Match[str]]) -> str:
    frame = _frame_of_user(frames)
    if frame is None:
        return ""
    file = frame["file"].rpartition("/")[2]
    return f"{frame['function']} at {file}:{frame['line']}"


def _frame_of_user(frames: list[re.Match[str]]) -> re.Match[str] | None:
    """Returns the innermost frame that the code's author knows; if there is none, the innermost.

    That is code which is not installed, or else code of the handler's own package.
    """
    if not frames:
        return None
    own = [frame for frame in frames if not _LIBRARY.search(frame["file"])]
    if not own and (package := _INSTALLED.match(frames[-1]["file"])):
        root = package[0]
        own = [
            frame
            for frame in frames
            if frame["file"] == root or frame["file"].startswith(f"{root}/")
        ]
    return (own or frames)[0]
