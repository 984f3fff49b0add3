"""``synk queues``: what waits, runs and is paused in each queue; and its verbs."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

import click

from synk.cli import options
from synk.cli.records import print_json
from synk.errors import ConfigurationError
from synk.queue_words import ALL
from synk.status import client_id_of, nobody_serves, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from synk.queue_words import QueueWord
    from synk.queues import Queues
    from synk.show.queues import QueueRow
    from synk.storage.postgres import PostgresStorage

_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

_queue_argument = click.argument("queue", metavar="QUEUE")
_supervisor_option = click.option(
    "--supervisor", metavar="ID", help="Only on the supervisor with this id, see synk top."
)
_by_option = click.option("--by", help="Who says so; by default the user and the machine.")


@click.group(invoke_without_command=True)
@options.json_option
@options.storage_option
@options.schema_option
@click.pass_context
def queues(context: click.Context, *, as_json: bool, storage: str | None, schema: str) -> None:
    """Show what waits and runs in each queue, which are paused, and who serves them.

    Waiting are jobs that may begin now. In JSON times are seconds.
    """
    if context.invoked_subcommand is not None:
        return
    with options.storage_of(storage, schema) as database:
        options.tell_of_hidden(database)
        rows = _rows(database)
    if as_json:
        print_json([_as_record(row) for row in rows])
    elif rows:
        from synk.show.console import put  # noqa: PLC0415 - rich takes its time to load
        from synk.show.queues import queues_table  # noqa: PLC0415 - as above

        put(queues_table(rows, dt.datetime.now(dt.UTC)))
    else:
        click.echo("no queues: no supervisor runs, and no job waits")


@queues.command()
@_queue_argument
@click.option(
    "--wait",
    metavar="TIME",
    help="Wait up to 10s, 500ms or 2m until no job of it can begin anywhere; status 1 if not.",
)
@_supervisor_option
@_by_option
@options.storage_option
@options.schema_option
def pause(
    *,
    queue: str,
    wait: str | None,
    supervisor: str | None,
    by: str | None,
    storage: str | None,
    schema: str,
) -> None:
    """Have no job of QUEUE begin any more; those that run finish. * stands for all queues."""
    wait_for = None if wait is None else _duration("--wait", wait)

    def say(queues: Queues) -> str:
        done = queues.pause(queue, wait=wait_for, supervisor=supervisor, by=by)
        what = "no job of it can begin" if done.is_in_force else "no job of it begins from now on"
        more = f", {done.running:,} run still" if done.running else ""
        return f"paused {printable(queue)}: {what}{more}"

    _say(say, queue, storage, schema)


@queues.command()
@_queue_argument
@_supervisor_option
@_by_option
@options.storage_option
@options.schema_option
def resume(
    *, queue: str, supervisor: str | None, by: str | None, storage: str | None, schema: str
) -> None:
    """Have jobs of QUEUE begin again. * stands for all queues, also those paused by name."""

    def say(queues: Queues) -> str:
        queues.resume(queue, supervisor=supervisor, by=by)
        return f"resumed {printable(queue)}"

    _say(say, queue, storage, schema)


@queues.command()
@_queue_argument
@click.argument("max_workers", metavar="NUMBER|configured")
@_supervisor_option
@_by_option
@options.storage_option
@options.schema_option
def resize(
    *,
    queue: str,
    max_workers: str,
    supervisor: str | None,
    by: str | None,
    storage: str | None,
    schema: str,
) -> None:
    """Have up to NUMBER jobs of QUEUE run at once on each supervisor, or as many as configured."""
    is_configured = max_workers == "configured"
    if not is_configured and not max_workers.isdecimal():
        raise ConfigurationError("NUMBER", max_workers, "must be a number, or 'configured'")
    size = None if is_configured else int(max_workers)

    def say(queues: Queues) -> str:
        queues.resize(queue, size, supervisor=supervisor, by=by)
        count = "as many as configured" if size is None else f"up to {size:,}"
        return f"resized {printable(queue)}: {count} of its jobs run at once on a supervisor"

    _say(say, queue, storage, schema)


def _say(say: Callable[[Queues], str], queue: str, storage: str | None, schema: str) -> None:
    from synk.queues import Queues  # noqa: PLC0415 - `--help` needs none

    with options.storage_of(storage, schema) as database:
        click.echo(say(Queues({}, database)))
        if queue != ALL and not any(queue in each.queues for each in database.standings()):
            click.echo(f"synk: {nobody_serves(queue)}; it holds for those that will", err=True)


def _duration(option: str, text: str) -> dt.timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ConfigurationError(option, text, "must be a time as 500ms, 10s or 2m")
    return dt.timedelta(seconds=float(found[1]) * _UNITS[found[2]])


# -- the list -------------------------------------------------------------------------------------


def _rows(storage: PostgresStorage) -> list[QueueRow]:
    from synk.show.queues import rows_of  # noqa: PLC0415 - as above

    return rows_of(
        depths=storage.queue_depths(),
        oldest=storage.oldest_due(),
        standings=storage.standings(),
        settings=storage.settings(),
    )


def _as_record(row: QueueRow) -> dict[str, Any]:
    return {
        "queue": row.queue,
        "available": row.available,
        "running": row.running,
        "oldest_due_s": row.oldest_due_s,
        "paused": _word(row.paused),
        "max_workers": _word(row.max_workers),
        "supervisors": list(_served(row)),
    }


def _served(row: QueueRow) -> Iterable[dict[str, Any]]:
    for each in row.served:
        yield {
            "id": client_id_of(each.supervisor.id),
            "host": each.supervisor.host,
            "pid": each.supervisor.pid,
            "paused": _word(each.paused),
            "max_workers": _word(each.max_workers),
            "is_in_force": each.is_in_force,
        }


def _word(word: QueueWord | None) -> dict[str, Any] | None:
    if word is None:
        return None
    return {"value": word.value, "by": word.by, "at": word.at.isoformat()}
