"""What synk's migrations make, by name: what is synk's in a schema that it shares with others.

Read from the files themselves, so that nothing has to be listed twice. Everything else in the
schema is somebody else's, and is left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from synk.storage import sql

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHANGE: Final = re.compile(
    r"^\s*(CREATE|DROP)(?: OR REPLACE)?(?: UNLOGGED| UNIQUE)? (TABLE|TYPE|FUNCTION|INDEX)"
    r"(?: CONCURRENTLY)?(?: IF NOT EXISTS| IF EXISTS)? ((?:\"\w+\"\.)?\w+)(?: ?\(([^()]*)\))?",
    re.MULTILINE,
)


@dataclass(slots=True)
class Made:
    """Names without the schema; functions with their arguments' types. In order of making."""

    tables: list[str] = field(default_factory=list[str])
    types: list[str] = field(default_factory=list[str])
    functions: list[str] = field(default_factory=list[str])
    indexes: list[str] = field(default_factory=list[str])

    def without(self, other: Made) -> Made:
        """Returns what is not in *other*."""
        return Made(
            *(
                [name for name in own if name not in others]
                for own, others in zip(self._lists(), other._lists(), strict=True)
            )
        )

    def _lists(self) -> tuple[list[str], ...]:
        return self.tables, self.types, self.functions, self.indexes


def made(schema: str, up_to: int) -> Made:
    """Returns what there is once the migrations up to that version have run."""
    found = Made()
    for change, names, name in _changes(schema, found, 0, up_to):
        if change == "DROP" and name in names:
            names.remove(name)
        elif change == "CREATE" and name not in names:
            names.append(name)
    return found


def made_on_the_way(schema: str, after: int, up_to: int) -> Made:
    """Returns what the migrations after one version make, up to another; kept or not."""
    found = Made()
    for change, names, name in _changes(schema, found, after + 1, up_to):
        if change == "CREATE" and name not in names:
            names.append(name)
    return found.without(made(schema, after))


def _changes(
    schema: str, found: Made, first: int, last: int
) -> Iterator[tuple[str, list[str], str]]:
    """Gives each change in those versions, the list of *found* that it belongs to, and its name."""
    kinds = {
        "TABLE": found.tables,
        "TYPE": found.types,
        "FUNCTION": found.functions,
        "INDEX": found.indexes,
    }
    for version, _, text in sql.migrations(schema):
        for match in _CHANGE.finditer(text if first <= version <= last else ""):
            change, kind, name, arguments = match.groups(default="")
            bare = name.rpartition(".")[2]
            if kind == "FUNCTION":
                bare += f"({_types(arguments)})"
            yield change, kinds[kind], bare


def _types(arguments: str) -> str:
    """Returns the types of ``name type, ...`` or ``type, ...``."""
    return ", ".join(each.split()[-1] for each in arguments.split(",") if each.strip())
