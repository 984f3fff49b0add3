"""Text of any object, for JSON, databases and terminals; whatever the object does."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LABEL_CHARACTERS_MAX: Final = 400
"""File, function, module and class names, and source lines."""

_UNCLEAN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(text: object, limit: int) -> str:
    r"""Returns *text* as at most *limit* characters that any JSON, database and terminal can take.

    NUL becomes U+2400 and a lone surrogate U+FFFD; other control characters (C0 but for newline and
    tab, DEL, C1) are written as ``\xNN``, so no escape sequence survives. What is too long loses
    its middle, and says how many characters that were. Cleaning twice changes nothing. Bytes are
    read as UTF-8; any other object by its ``str()``, and if that fails the text says so.
    """
    try:
        raw = _raw_text(text)
    except BaseException as error:  # noqa: BLE001 - a hostile __str__ must not stop the report
        raw = f"<str() of {own_name(text)} failed: {own_name(error)}>"
    if len(raw) <= 2 * limit:
        cleaned, unseen = _UNCLEAN.sub(_replacement, raw), 0
    else:  # what cannot be shown is not even looked at: it may be a gigabyte
        kept = raw[:limit] + raw[len(raw) - limit :]
        cleaned, unseen = _UNCLEAN.sub(_replacement, kept), len(raw) - len(kept)
    if not unseen and len(cleaned) <= limit:
        return cleaned
    return _without_middle(cleaned, unseen, limit)


def one_line(text: object, limit: int = LABEL_CHARACTERS_MAX) -> str:
    """Returns *text* cleaned, on one line."""
    return clean_text(text, limit).replace("\n", " ")


def _raw_text(text: object) -> str:
    if isinstance(text, bytes):
        return text.decode("utf-8", "replace")
    # a str subclass may override its methods; str.__str__ copies it to a plain str
    return str.__str__(text if isinstance(text, str) else str(text))


def _replacement(match: re.Match[str]) -> str:
    character = match[0]
    if character == "\x00":
        return "\u2400"
    return f"\\x{ord(character):02x}" if character < "\u0100" else "\ufffd"


def _without_middle(cleaned: str, unseen: int, limit: int) -> str:
    total = len(cleaned) + unseen
    room = limit - len(f"[… {total} characters left out …]")
    if room < 2:
        return cleaned[: max(limit, 0)]
    head, tail = room - room // 2, room // 2
    mark = f"[… {total - head - tail} characters left out …]"
    return cleaned[:head] + mark + cleaned[len(cleaned) - tail :]


def own_name(value: object) -> str:
    """Returns the name of its class."""
    return one_line(safely(partial(getattr, type(value), "__qualname__"), "object"))


def safely(read: Callable[[], T], otherwise: T) -> T:
    """Returns what *read* gives, or *otherwise* if it raises."""
    try:
        return read()
    except BaseException:  # noqa: BLE001 - user code that fails here must not stop the report
        return otherwise
