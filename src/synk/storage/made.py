"""What synk's migrations make, by name: what is synk's in a schema that it shares with others.

Read from the files themselves, so that nothing has to be listed twice. Everything else in the
schema is somebody else's, and is left alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from synk.storage import sql

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CHANGE: Final = re.compile(
    r"^\s*(CREATE|DROP)(?: OR REPLACE)?(?: UNLOGGED| UNIQUE)? (TABLE|TYPE|FUNCTION|INDEX)"
    r"(?: CONCURRENTLY)?(?: IF NOT EXISTS| IF EXISTS)? ((?:\"\w+\"\.)?\w+)(?: ?\(([^()]*)\))?",
    re.MULTILINE,
)


Thing: TypeAlias = "tuple[str, str]"
"""TABLE, TYPE, FUNCTION or INDEX, and a name without the schema; a function's with its types."""


def made(schema: str, up_to: int) -> list[Thing]:
    """Returns what there is once the migrations up to that version have run, in order of making."""
    found: list[Thing] = []
    for change, thing in _changes(schema, 0, up_to):
        if change == "DROP" and thing in found:
            found.remove(thing)
        elif change == "CREATE" and thing not in found:
            found.append(thing)
    return found


def made_on_the_way(schema: str, after: int, up_to: int) -> list[Thing]:
    """Returns what the migrations after one version make, up to another; kept or not."""
    before = made(schema, after)
    changes = dict.fromkeys(_changes(schema, after + 1, up_to))
    return [thing for change, thing in changes if change == "CREATE" and thing not in before]


def named(things: Iterable[Thing], *kinds: str) -> list[str]:
    """Returns the names of the things of these kinds."""
    return [name for kind, name in things if kind in kinds]


def _changes(schema: str, first: int, last: int) -> Iterator[tuple[str, Thing]]:
    """Gives each change in those versions, CREATE or DROP, and what it is of."""
    for version, _, text in sql.migrations(schema):
        for match in _CHANGE.finditer(text if first <= version <= last else ""):
            change, kind, name, arguments = match.groups(default="")
            bare = name.rpartition(".")[2]
            yield change, (kind, f"{bare}({_types(arguments)})" if kind == "FUNCTION" else bare)


def _types(arguments: str) -> str:
    """Returns the types of ``name type, ...`` or ``type, ...``."""
    given = [each.split() for each in arguments.split(",") if each.strip()]
    return ", ".join(" ".join(words[1:] or words) for words in given)
