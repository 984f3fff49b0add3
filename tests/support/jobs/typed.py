"""Arguments of every type that a field may have."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any, Final

import synk

NOBODY: Final = uuid.UUID(int=0)


class Colour(Enum):
    RED = "red"


@dataclass
class Everything(synk.JobArgs, kind="everything"):
    number: int = 0
    ratio: float = 0.0
    text: str = ""
    time: dt.datetime | None = None
    span: dt.timedelta = dt.timedelta()
    money: Decimal = Decimal(0)
    raw: bytes = b""
    name: uuid.UUID = NOBODY
    pair: tuple[int, str] = (0, "")
    words: frozenset[str] = frozenset()
    by_number: dict[int, str] = field(default_factory=dict)
    colour: Colour = Colour.RED
    anything: Any = None


@synk.worker
def everything(job: synk.Job[Everything]) -> None:
    pass
