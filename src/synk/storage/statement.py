"""A question to the database as a value, and what makes one of a file in ``sql/``. No I/O here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from synk.storage import reading, sql

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import LiteralString

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Statement(Generic[T]):
    """One statement. `read` makes the answer of its rows and of the number of rows it changed."""

    text: LiteralString
    parameters: dict[str, object]
    read: Callable[[Any, int], T]
    by_name: bool = False
    """Whether it reads rows as dicts. As tuples it reads one column, or many rows, whose order of
    columns is tested."""
    binary: bool = False
    """Whether the rows are asked for in binary: faster to read where there are many, and times and
    fractions are the same whatever the session's DateStyle or extra_float_digits."""


class StatementsOfSchema:
    """What all statements for one schema have in common.

    A feature's own are a class of their own that builds on this one, and `Statements` on all of
    them.
    """

    def __init__(self, schema: str = sql.DEFAULT_SCHEMA) -> None:
        self.schema = sql.check_schema(schema)

    def _text(self, name: str) -> LiteralString:
        return sql.statement(name, self.schema)

    def _changing(self, name: str, /, **parameters: object) -> Statement[int]:
        """Answers how many rows it changed."""
        return Statement(self._text(name), parameters, reading.changed)

    def _telling(self, name: str, /, **parameters: object) -> Statement[None]:
        """Answers nothing."""
        return Statement(self._text(name), parameters, reading.nothing)

    def _asking(
        self,
        name: str,
        read: Callable[[reading.Records, int], T],
        /,
        *,
        binary: bool = False,
        **parameters: object,
    ) -> Statement[T]:
        """Answers what *read* makes of its rows, by the names of their columns."""
        return Statement(self._text(name), parameters, read, by_name=True, binary=binary)
