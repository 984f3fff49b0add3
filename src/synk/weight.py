"""What the jobs of a kind take of their machine while they run: CPU cores and memory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from synk.config import check_bytes
from synk.errors import ConfigurationError

_UNITS: Final = {
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]I?B)", re.ASCII | re.IGNORECASE)
_PROBLEM: Final = 'must be a number of bytes, or text such as "3GiB" or "500 MB"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """What one job of a kind takes while it runs.

    Attributes:
        cores: CPU cores; None: what any job takes, the one that its worker process is for.
        memory: bytes; 0: not said.
    """

    cores: int | None = None
    memory: int = 0


def checked_weight(cores: object, memory: object, max_rss: int | None = None) -> Weight | None:
    """Returns the weight that a worker's options say; None: they say nothing of it.

    Raises:
        ConfigurationError: no whole number of cores from 1 on, or no number of bytes, or more than
            *max_rss*, above which a job is killed.
    """
    if cores is None and memory is None:
        return None
    count = None if cores is None else checked_cores(cores)
    size = 0 if memory is None else bytes_of("memory", memory)
    if max_rss is not None and max_rss < size:
        problem = f"is less than the memory that a job is to have, {shown_bytes(size)}"
        raise ConfigurationError("max_rss", max_rss, problem)
    return Weight(cores=count, memory=size)


def checked_cores(cores: object) -> int:
    """Returns *cores* if it is a number of CPU cores.

    Raises:
        ConfigurationError: it is no whole number from 1 to 65535.
    """
    if not isinstance(cores, int) or isinstance(cores, bool) or not 1 <= cores <= 65535:
        raise ConfigurationError("cores", cores, "must be a whole number from 1 on")
    return cores


def bytes_of(field: str, value: object) -> int:
    """Returns a number of bytes, given as such or as text with a unit: ``"3GiB"``, ``"1.5 GB"``.

    Units are KiB, MiB, GiB, TiB of 1024, and KB, MB, GB, TB of 1000, in any case.

    Raises:
        ConfigurationError: it is neither, or less than 1 MiB.
    """
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value.strip())
        if found is None:
            raise ConfigurationError(field, value, _PROBLEM)
        number, unit = found.groups()
        return check_bytes(field, round(float(number) * _UNITS[unit.upper()]))
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigurationError(field, value, _PROBLEM)
    return check_bytes(field, value)


def shown_bytes(count: int) -> str:
    """Returns a number of bytes as people write it: ``3GiB``, ``1.5GiB``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count >= _UNITS[unit.upper()]:
            return f"{count / _UNITS[unit.upper()]:.4g}{unit}"
    return f"{count} bytes"
