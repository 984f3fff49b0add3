"""What the settings say of limits: what the code of a supervisor declared, and what somebody set.

Of a limit, scope ``limit:NAME``; of one of its keys, scope ``limit:NAME:VALUE``. There the settings
``running`` and ``rate`` hold in place of what the code says, each by itself; ``declared`` is what
the code said that was started last, for those who have another code or none: people who look, and
supervisors that have jobs of a limit that their code does not know.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, Final, cast

from synk.errors import ConfigurationError
from synk.limit import Cap, Limit, cap_of, check_rate, check_running
from synk.setting import SettingChange

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from synk.limit import Rate
    from synk.setting import Setting

RUNNING: Final = "running"
RATE: Final = "rate"
DECLARED: Final = "declared"

_SCOPE: Final = "limit:"


def scope_of(key: str) -> str:
    """Returns the scope of what is set for a limit's name, or for a key."""
    return _SCOPE + key


class LimitWords:
    """What the settings say of limits.

    Args:
        rows: all settings.
    """

    def __init__(self, rows: Iterable[Setting]) -> None:
        self.declared: dict[str, Limit] = {}
        """By name."""
        self.running: dict[str, int | None] = {}
        """By name or key; None: any number."""
        self.rates: dict[str, Rate | None] = {}
        """By name or key; None: as they come."""
        for row in rows:
            if row.scope.startswith(_SCOPE):
                self._read(row.scope.removeprefix(_SCOPE), row.name, row.value)

    def _read(self, key: str, name: str, value: object) -> None:
        """Takes in what can be understood."""
        is_record = isinstance(value, dict)
        said = cast("dict[str, Any]", value if is_record else {"value": value})
        try:
            if name == RUNNING:
                check_running(said["value"])
                self.running[key] = said["value"]
            elif name == RATE:
                self.rates[key] = rate_from_json(said["value"])
            elif name == DECLARED:
                self.declared[key] = Limit(
                    key,
                    key=said["key"],
                    running=said["running"],
                    rate=rate_from_json(said["rate"]),
                )
        except (ConfigurationError, KeyError):
            return

    def caps(self, known: Mapping[str, Cap]) -> dict[str, Cap]:
        """Returns what holds, by limits' names and by keys.

        Args:
            known: by name, what the code says here; of other limits counts what was declared.
        """
        of_code = {**{name: limit.cap for name, limit in self.declared.items()}, **known}
        caps = {**of_code}
        # Names before keys, which have more in them.
        for key in sorted({*self.running, *self.rates}, key=lambda key: (":" in key, key)):
            base = caps.get(key, cap_of(key, caps))
            caps[key] = Cap(self.running.get(key, base.running), self.rates.get(key, base.rate))
        return caps

    def declaring(self, limits: Iterable[Limit]) -> list[SettingChange]:
        """Returns the changes by which *limits* are declared; none: they are."""
        return [
            SettingChange(
                scope_of(limit.name),
                DECLARED,
                {"key": limit.key, "running": limit.running, "rate": rate_to_json(limit.rate)},
            )
            for limit in limits
            if self.declared.get(limit.name) != limit
        ]


def rate_to_json(rate: Rate | None) -> list[float] | None:
    """Returns a rate as it is stored: a number, and seconds."""
    return None if rate is None else [rate[0], rate[1].total_seconds()]


def rate_from_json(value: Any) -> Rate | None:
    """Returns the rate of what was stored.

    Raises:
        ConfigurationError: it is none.
    """
    if value is None:
        return None
    try:
        count, seconds = value
        rate = count, dt.timedelta(seconds=seconds)
    except (TypeError, ValueError, OverflowError):
        raise ConfigurationError("limit.rate", value, "must be a number and seconds") from None
    check_rate(rate)
    return rate
