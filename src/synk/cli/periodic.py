"""``synk periodic``: lists jobs that come again and again, pauses them, runs them, adds some."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final, cast

import click
import msgspec

from synk.cli import options
from synk.cli.records import as_record, print_json
from synk.errors import ConfigurationError
from synk.insertion import InsertOptions
from synk.periodic import Periodic
from synk.row import Change, Priority

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.periodic import Schedule

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION: Final = re.compile(r"(\d{1,6})([smhdw])")


@click.group(invoke_without_command=True)
@options.json_option
@options.storage_option
@options.schema_option
@click.pass_context
def periodic(context: click.Context, *, as_json: bool, storage: str | None, schema: str) -> None:
    """List periodic jobs, or do something about one."""
    if context.invoked_subcommand is not None:
        return
    with options.storage_of(storage, schema) as database:
        schedules = database.schedules()
    if as_json:
        print_json([_as_record(each) for each in schedules])
    elif schedules:
        _print_table(schedules)
    else:
        click.echo("no periodic jobs")


def _as_record(schedule: Schedule) -> dict[str, Any]:
    record = as_record(schedule)
    record["args"] = msgspec.json.decode(schedule.args)
    record["meta"] = None if schedule.meta is None else msgspec.json.decode(schedule.meta)
    record["tags"] = list(schedule.tags)
    return record


def _print_table(schedules: list[Schedule]) -> None:
    from synk.show.console import new_console, put  # noqa: PLC0415 - rich takes time
    from synk.show.periodic import periodic_table  # noqa: PLC0415 - as above

    put(periodic_table(schedules, dt.datetime.now(dt.UTC)), new_console())


# -- one of them ----------------------------------------------------------------------------------


def _verb(name: str, done: str, otherwise: str, about: str) -> None:
    """Makes the command that says *done*, or *otherwise* where the state does not allow it."""

    @periodic.command(name, help=about)
    @click.argument("names", nargs=-1, required=True, metavar="NAME...")
    @options.storage_option
    @options.schema_option
    def _command(names: tuple[str, ...], storage: str | None, schema: str) -> None:
        words = {Change.APPLIED: done, Change.REFUSED: otherwise, Change.GONE: _GONE}
        with options.storage_of(storage, schema) as database:
            act: Callable[[str], Change] = getattr(database, f"{name}_schedule")
            answers = {each: act(each) for each in names}
        for each, answer in answers.items():
            click.echo(f"periodic job {each}: {words[answer]}")
        if Change.GONE in answers.values():
            raise click.exceptions.Exit(1)


_GONE: Final = "there is no such"

_verb("pause", "paused", "is paused already", "Pause periodic jobs: no tick of them is taken.")
_verb("resume", "resumed", "is not paused", "Resume them: ticks count from now on.")
_verb("remove", "removed", "unchanged", "Remove them. Code that declares one brings it back.")


@periodic.command()
@click.argument("name")
@options.storage_option
@options.schema_option
def run(*, name: str, storage: str | None, schema: str) -> None:
    """Make a job of NAME now, also if it is paused."""
    with options.storage_of(storage, schema) as database:
        job_id = database.run_schedule(name)
    if job_id is None:
        click.echo(f"periodic job {name}: {_GONE}")
        raise click.exceptions.Exit(1)
    click.echo(f"periodic job {name}: job {job_id}")


@periodic.command()
@click.argument("name")
@click.argument("kind")
@click.argument("args", default="{}")
@click.option("--cron", help="When: five fields, as '30 2 * * *', or a nickname, as @daily.")
@click.option("--every", metavar="AGE", help="Or how often: 30s, 15m, 12h, 1d, 2w.")
@click.option("--tz", default="UTC", show_default=True, help="The time zone of --cron.")
@click.option(
    "--missed",
    type=click.Choice(["one", "all", "none"]),
    default="one",
    show_default=True,
    help="What becomes of ticks that no supervisor was there for.",
)
@click.option("--max-late", metavar="AGE", help="A tick that is later than this is skipped.")
@click.option("--jitter", metavar="AGE", help="Jobs come up to so much after their tick.")
@click.option(
    "--overlap",
    type=click.Choice(["skip", "allow"]),
    default="skip",
    show_default=True,
    help="What becomes of a tick while the last job is not over.",
)
@click.option("--queue", help="The queue of its jobs.")
@click.option("--priority", type=click.IntRange(1, 4), help="Their priority; 1 runs first.")
@click.option("--max-retries", type=click.IntRange(min=0), help="Their tries after the first.")
@options.storage_option
@options.schema_option
def add(  # noqa: PLR0913 - all by name
    *,
    name: str,
    kind: str,
    args: str,
    cron: str | None,
    every: str | None,
    tz: str,
    missed: str,
    max_late: str | None,
    jitter: str | None,
    overlap: str,
    queue: str | None,
    priority: int | None,
    max_retries: int | None,
    storage: str | None,
    schema: str,
) -> None:
    """Add a periodic job by hand, or change it: NAME, the KIND of its jobs, and their ARGS in JSON.

    Nothing is known here of the types of arguments, nor of what a kind defaults to.
    """
    if (not cron) == (every is None):
        raise ConfigurationError("--cron", cron, "give one of --cron and --every")
    said: dict[str, Any] = {"missed": missed, "overlap": overlap}
    definition = Periodic(
        name,
        cron or _duration("--every", every or ""),
        _args_of(kind, args),
        tz=tz,
        max_late=None if max_late is None else _duration("--max-late", max_late),
        jitter=dt.timedelta(0) if jitter is None else _duration("--jitter", jitter),
        options=InsertOptions(
            queue=queue,
            priority=None if priority is None else Priority(priority),
            max_retries=max_retries,
        ),
        **said,
    ).definition({})
    with options.storage_of(storage, schema) as database:
        is_new = database.declare_schedule(definition)
    words = {True: "added", False: "changed", None: "was there, and says the same"}
    click.echo(f"periodic job {name}: {words[is_new]}")


def _args_of(kind: str, text: str) -> Any:
    """Returns arguments of that kind, of which nothing else is known."""
    try:
        given = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError("args", text, f"is not JSON: {error}") from None
    fields = cast("dict[str, Any]", given if isinstance(given, dict) else {"": given})
    if not all(name.isidentifier() for name in fields):
        raise ConfigurationError("args", text, "must be a JSON object, by the names of fields")
    made = msgspec.defstruct(
        "Args", [(field, Any) for field in fields], namespace={"kind": kind}, kw_only=True
    )
    return made(**fields)


def _duration(option: str, text: str) -> dt.timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigurationError(option, text, "must be a duration, as 30s, 15m, 12h, 1d or 2w")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})
