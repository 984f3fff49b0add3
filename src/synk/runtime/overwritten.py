"""What a terminal shows of lines that are written over, as progress bars do."""

from __future__ import annotations

import re
from typing import Final

_ERASURE: Final = re.compile(r"\x1b\[[012]?K")
"""Asks a terminal to erase the rest of a line, or all of it."""


def shown(line: bytes | bytearray) -> bytes:
    """Returns what a terminal shows of a line that carriage returns have begun anew."""
    if b"\r" not in line:
        return bytes(line)
    seen = ""
    for text in line.decode(errors="surrogateescape").split("\r"):
        # What a shorter text leaves of the longer one before it stays, unless it is erased.
        rest = "" if _ERASURE.search(text) else seen[len(text) :]
        seen = _ERASURE.sub("", text) + rest
    return seen.encode(errors="surrogateescape")


def written_over(tail: bytes | bytearray) -> bytearray:
    """Returns the tail without what its lines have been written over with since.

    The last line goes on: what is written after its last carriage return stays apart, since the
    next part may continue it, in the middle of a character even.
    """
    *lines, last = tail.split(b"\n")
    before, returned, current = last.rpartition(b"\r")
    kept = [*map(shown, lines), shown(before) + returned + current]
    return bytearray(b"\n".join(kept))
