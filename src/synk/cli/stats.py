"""``synk stats``: how many jobs there are, and what they take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from synk.cli import options
from synk.cli.records import as_record, print_json
from synk.row import JobState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.row import KindSummary
    from synk.storage.inspection import Inspection


@click.command()
@click.option("--queue", help="Only jobs of this queue.")
@options.json_option
@options.storage_option
@options.schema_option
def stats(*, queue: str | None, as_json: bool, storage: str | None, schema: str) -> None:
    """Show how many jobs there are, and what they take.

    By kind, state and queue. Failed are those of the cancelled ones whose attempts failed or
    killed their workers. In JSON times are seconds and memory is bytes.
    """
    with options.storage_of(storage, schema) as database:
        options.tell_of_hidden(database)
        seen = _stats(database, queue)
    if as_json:
        print_json(_as_record(seen))
    elif seen.kinds:
        _print_stats(seen)
    else:
        click.echo("no jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stats:
    """What ``synk stats`` shows; of queues how many jobs may begin and how many run."""

    kinds: list[KindSummary]
    states: Mapping[JobState, int]
    queues: Mapping[str, Mapping[str, int]]


def _stats(storage: Inspection, queue: str | None) -> _Stats:
    depths = storage.queue_depths()
    waiting, runs = depths.available, depths.running
    return _Stats(
        kinds=storage.summary(queue),
        states=storage.counts(queue),
        queues={
            name: {"available": waiting.get(name, 0), "running": runs.get(name, 0)}
            for name in sorted(waiting.keys() | runs.keys())
            if queue in (None, name)
        },
    )


def _as_record(seen: _Stats) -> dict[str, Any]:
    return {
        "kinds": [as_record(each) for each in seen.kinds],
        "states": {state.value: seen.states.get(state, 0) for state in JobState},
        "queues": seen.queues,
    }


def _print_stats(seen: _Stats) -> None:
    from rich.text import Text  # noqa: PLC0415 - rich takes its time to load

    from synk.show.console import columns_of, new_console, put  # noqa: PLC0415 - as above
    from synk.show.stats import queue_table, summary_table  # noqa: PLC0415 - as above
    from synk.show.values import counts  # noqa: PLC0415 - as above

    console = new_console()
    put(summary_table(seen.kinds, width=columns_of(console)), console)
    put(Text("\n").append_text(counts(seen.states)), console)
    if seen.queues:
        put(Text(), console)
        put(queue_table(seen.queues), console)
