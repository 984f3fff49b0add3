"""What commands print with ``--json``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import click

from synk.failure import AttemptError
from synk.row import Progress
from synk.unique import UniqueScope

if TYPE_CHECKING:
    from synk.periodic import Schedule
    from synk.row import KindSummary, ListedJob


def print_json(value: Any) -> None:
    """Prints what is made of records."""
    click.echo(json.dumps(value, indent=2))


def as_record(row: ListedJob | KindSummary | Schedule) -> dict[str, Any]:
    """Returns a record for JSON: times as ISO text, durations as seconds."""
    return {each.name: _plain(getattr(row, each.name)) for each in dataclasses.fields(row)}


def _plain(value: Any) -> Any:
    match value:
        case dt.datetime():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case list() | tuple():
            return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        case AttemptError():
            return value.to_dict()
        case Progress() | UniqueScope():
            return {
                each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)
            }
        case _:
            return value
