"""How each peer is set up: for speed, as its own documentation recommends.

One place for all of it. `processes` is how often the worker is started, where the peer does not
start processes itself; CPUS stands for the number of CPUs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Broker(Enum):
    POSTGRES = "PostgreSQL"
    REDIS = "Redis"
    NONE = "none"


@dataclass(frozen=True)
class Setup:
    script: str
    """The program beside this file that drives it."""
    package: str
    broker: Broker
    settings: dict[str, Any]
    source: str
    """Where its authors recommend them."""
    wants_url: bool = False
    """Whether it takes a database as a URL only."""


CPUS = "CPUs"

PEERS: dict[str, Setup] = {}
