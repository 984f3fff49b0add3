"""What a terminal shows of lines that are written over, as progress bars do."""

from __future__ import annotations

import re
from typing import Final

_ERASURE: Final = re.compile(r"\x1b\[[012]?K")
"""Asks a terminal to erase the rest of a line, or all of it."""

_UP: Final = re.compile(rb"\x1b\[(\d*)A")
"""Asks it to go up so many lines, as several bars do that are drawn below each other."""

_STEP: Final = re.compile(rb"(\n|\x1b\[\d*A)")


def shown(line: bytes | bytearray) -> bytes:
    """Returns what a terminal shows of a line that carriage returns have begun anew."""
    if b"\r" not in line:
        return bytes(line)
    seen = ""
    for text in line.decode(errors="surrogateescape").split("\r"):
        # What a shorter text leaves of the longer one before it stays, unless it is erased.
        rest = "" if _ERASURE.search(text) else seen[len(text) :]
        seen = _ERASURE.sub("", text) + rest
    return seen.rstrip(" ").encode(errors="surrogateescape")


def without_steps_up(text: bytes) -> bytes:
    """Returns *text* as if what goes up and down again had begun its line anew."""
    return _UP.sub(b"\r", text.replace(b"\x1b[A\n", b"\r")) if b"\x1b[" in text else text


def written_over(tail: bytes | bytearray) -> bytearray:
    """Returns the tail without what its lines have been written over with since.

    The line where it goes on keeps apart what was written after its last carriage return, since the
    next part may continue it, in the middle of a character even.
    """
    lines, row = _lines(bytes(tail))
    before, returned, current = lines[row].rpartition(b"\r")
    kept = list(map(shown, lines))
    kept[row] = shown(before) + returned + current
    below = len(lines) - 1 - row
    return bytearray(b"\n".join(kept) + (b"\x1b[%dA" % below if below else b""))


def as_shown(tail: bytes) -> bytes:
    """Returns all of the tail as a terminal shows it."""
    return b"\n".join(map(shown, _lines(tail)[0]))


def _lines(tail: bytes) -> tuple[list[bytes], int]:
    """Returns the lines, each with all that was written there, and in which of them it goes on."""
    if not _UP.search(tail):
        lines = tail.split(b"\n")
        return lines, len(lines) - 1
    lines, row = [b""], 0
    for step in _STEP.split(tail):
        if step == b"\n":
            row += 1
            if row == len(lines):
                lines.append(b"")
            else:
                lines[row] += b"\r"
        elif up := _UP.fullmatch(step):
            row = max(0, row - int(up[1] or 1))
        else:
            lines[row] += step
    return lines, row
