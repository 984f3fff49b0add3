"""What all facts have."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class Fact:
    """Something that happened. Each kind of fact is a frozen dataclass, and has a level.

    Attributes:
        level: how serious facts of this kind are, as of `logging`.
        line: what an operator is told, with the names of fields in braces; where it takes more than
            these, the kind has a `__str__` of its own.
    """

    level: ClassVar[int]
    line: ClassVar[str]

    def __str__(self) -> str:
        return self.line.format_map(vars(self))

    @property
    def severity(self) -> int:
        """The level of this very fact, of those of `logging`."""
        return self.level

    @property
    def is_routine(self) -> bool:
        """Whether there can be one for each job: only who wants to hear of successes is told."""
        return False

    @property
    def fields(self) -> dict[str, object]:
        """What it is about, by name."""
        return {}

    def __init_subclass__(cls, *, level: int = logging.INFO) -> None:
        dataclass(frozen=True)(cls)
        cls.level = level
