"""The idempotency key of the job of a tick: no tick has two jobs, and the job knows its tick."""

from __future__ import annotations

import datetime as dt
from typing import Final

_BEGINNING: Final = "periodic:"
"""In claim.sql too: such a key comes with the claim."""


def key_of(name: str, tick: dt.datetime) -> str:
    """Returns the key of the job of a tick of the periodic job *name*."""
    return f"{_BEGINNING}{name}:{tick.astimezone(dt.UTC).isoformat()}"


def tick_of(key: str | None) -> dt.datetime | None:
    """Returns the tick of a job with this key, in UTC; None if it is of no tick."""
    if key is None or not key.startswith(_BEGINNING):
        return None
    # A name may have colons too: the time is what it was made with.
    for start in range(len(_BEGINNING), len(key)):
        if key[start] == ":" and (tick := _read(key[start + 1 :])) is not None:
            return tick
    return None


def _read(text: str) -> dt.datetime | None:
    try:
        tick = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if tick.tzinfo is None else tick.astimezone(dt.UTC)
