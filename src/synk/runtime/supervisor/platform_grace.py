"""How long this process may take to end before its platform kills it, as far as that is known.

Nothing depends on an orderly end, but a drain that is cut short costs its jobs their attempt, and
others have to wait for the lease. So a drain that cannot be kept is told at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from synk.errors import ConfigurationError
from synk.telemetry import DrainTooLong

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "SYNK_TERMINATION_GRACE"
"""Says how many seconds the platform gives, where an operator has set another time than usual."""

LAST_S: Final = 5.0
"""What follows after the drain: kills, the last outcomes, the end of this process."""

_KUBERNETES: Final = ("Kubernetes", "terminationGracePeriodSeconds", 30.0)
_SYSTEMD: Final = ("systemd", "TimeoutStopSec", 90.0)


def doubt(drain_s: float, environment: Mapping[str, str], pid: int) -> DrainTooLong | None:
    """Returns what is to be told of a drain that the platform does not wait for, if it does not.

    Args:
        drain_s: how long a drain may take.
        environment: that of this process.
        pid: that of this process.

    Raises:
        ConfigurationError: the environment names no number of seconds.
    """
    told = environment.get(VARIABLE)
    if told is not None:
        platform, setting, grace_s = "the platform", "the time that it gives", _number(told)
    elif "KUBERNETES_SERVICE_HOST" in environment:
        platform, setting, grace_s = _KUBERNETES
    elif environment.get("SYSTEMD_EXEC_PID") == str(pid):
        platform, setting, grace_s = _SYSTEMD
    else:
        return None
    if drain_s + LAST_S <= grace_s:
        return None
    return DrainTooLong(drain_s, platform, setting, grace_s, VARIABLE, LAST_S)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(VARIABLE, text, "must be a number of seconds") from None
