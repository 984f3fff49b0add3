"""What is asked of a storage to set a limit or to show it, in order; nothing here asks or waits.

A client and its asyncio twin ask these questions, each in its own way.
"""

from __future__ import annotations

import hashlib
import json
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from synk.errors import ConfigurationError
from synk.limit import Cap, check_name, check_rate, check_running
from synk.limit_status import LimitStatus
from synk.limit_words import RATE, RUNNING, LimitWords, rate_to_json, scope_of
from synk.queue_steps import Ask
from synk.setting import SettingChange

if TYPE_CHECKING:
    from synk.limit import Rate
    from synk.limit_status import LimitedKeys
    from synk.queue_steps import Steps
    from synk.setting import Settings

_NONE: Final = Cap()
_VALUE_CHARACTERS_MAX: Final = 63


class _Unchanged(Enum):
    UNCHANGED = "as it is"


Unchanged: TypeAlias = Literal[_Unchanged.UNCHANGED]
UNCHANGED: Final = _Unchanged.UNCHANGED
"""For what is left out; None has a meaning."""

KeyValue: TypeAlias = "str | int | float | bool"
"""A value in the arguments that makes a key."""


def key_of(name: str, value: KeyValue | None) -> str:
    """Returns the key of a limit for a value in the arguments, as the table makes it.

    Raises:
        ConfigurationError: it is none that makes one.
    """
    if value is None:
        return check_name(name)
    if not isinstance(value, (str, int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError("key", value, "must be a text, a number, or True or False")
    text = value if isinstance(value, str) else json.dumps(value)
    if "\x00" in text:
        raise ConfigurationError("key", value, "holds a NUL character, which no key has")
    if len(text) > _VALUE_CHARACTERS_MAX:
        text = f"#{hashlib.sha256(text.encode()).hexdigest()[:62]}"
    return f"{check_name(name)}:{text}"


def setting(
    name: str,
    *,
    running: int | Unchanged | None,
    rate: Rate | Unchanged | None,
    key: KeyValue | None,
) -> Steps[None]:
    """Sets what holds for a limit, or for one of its keys."""
    scope = scope_of(key_of(name, key))
    changes: list[SettingChange] = []
    if running is not UNCHANGED:
        check_running(running)
        changes.append(SettingChange(scope, RUNNING, {"value": running}))
    if rate is not UNCHANGED:
        check_rate(rate)
        changes.append(SettingChange(scope, RATE, {"value": rate_to_json(rate)}))
    if not changes:
        raise ConfigurationError("limit", name, "has nothing to be set: give running= or rate=")
    yield Ask("change_settings", (changes,))


def unsetting(name: str, *, key: KeyValue | None) -> Steps[None]:
    """Has what the code says hold again."""
    scope = scope_of(key_of(name, key))
    changes = [SettingChange(scope, RUNNING), SettingChange(scope, RATE)]
    yield Ask("change_settings", (changes,))


def listing() -> Steps[list[LimitStatus]]:
    """Returns what is known of limits."""
    settings: Settings = yield Ask("settings")
    found: LimitedKeys = yield Ask("limited_keys")
    words = LimitWords(settings.rows)
    caps = words.caps({})
    of_keys = [each.key for each in found.keys]
    names = {key.partition(":")[0] for key in (*caps, *of_keys)}
    return [_status(name, words, caps, found) for name in sorted(names)]


def _status(name: str, words: LimitWords, caps: dict[str, Cap], found: LimitedKeys) -> LimitStatus:
    own = f"{name}:"
    cap = caps.get(name)
    return LimitStatus(
        name=name,
        declared=words.declared.get(name),
        cap=_NONE if cap is None else cap,
        caps={key: each for key, each in caps.items() if key.startswith(own)},
        keys=[each for each in found.keys if each.key == name or each.key.startswith(own)],
        is_cut=found.is_cut,
    )
