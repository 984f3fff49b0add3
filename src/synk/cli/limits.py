"""``synk limits``: what holds of each limit, and how much of it is taken; and its verbs."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING, Any, Final

import click

from synk.cli import options
from synk.cli.records import print_json
from synk.errors import ConfigurationError
from synk.limit_steps import UNCHANGED
from synk.status import printable

if TYPE_CHECKING:
    from synk.limit import Cap, Rate
    from synk.limit_status import LimitStatus
    from synk.limits import ClientLimits

_UNITS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_RATE: Final = re.compile(r"(\d+)/(\d*)(ms|s|m|h|d)")
_NO_LIMIT: Final = "none"

_name_argument = click.argument("name", metavar="NAME")
_key_option = click.option("--key", metavar="VALUE", help="Only for the jobs with this value.")


@click.group(invoke_without_command=True)
@options.json_option
@options.storage_option
@options.schema_option
@click.pass_context
def limits(context: click.Context, *, as_json: bool, storage: str | None, schema: str) -> None:
    """Show the limits, and of each key what runs and waits.

    Of a key are shown the processes that are at work for it, of those that may be, the jobs that
    wait, and how many have begun in the period of its rate. In JSON times are seconds.
    """
    if context.invoked_subcommand is not None:
        return
    from synk.limits import ClientLimits  # noqa: PLC0415 - `--help` needs none

    with options.storage_of(storage, schema) as database:
        options.tell_of_hidden(database)
        found = ClientLimits(database).list()
    if as_json:
        print_json([_as_record(each) for each in found])
    elif found:
        from synk.show.console import put  # noqa: PLC0415 - rich takes its time to load
        from synk.show.limits import limits_table  # noqa: PLC0415 - as above

        put(limits_table(found))
    else:
        click.echo("no limits: no supervisor has told of any, and none is set")


@limits.command("set")
@_name_argument
@click.option("--running", metavar="NUMBER|none", help="Processes at work for one key.")
@click.option("--rate", metavar="N/TIME|none", help="Jobs that begin in a time: 100/1m, 5/s.")
@_key_option
@options.storage_option
@options.schema_option
def set_limit(
    *,
    name: str,
    running: str | None,
    rate: str | None,
    key: str | None,
    storage: str | None,
    schema: str,
) -> None:
    """Have another number hold than the code says, for all keys of limit NAME or for one."""
    asked: dict[str, Any] = {
        "running": UNCHANGED if running is None else _number(running),
        "rate": UNCHANGED if rate is None else _rate(rate),
    }

    def say(limits: ClientLimits) -> str:
        limits.set(name, key=key, **asked)
        return f"set {_of(name, key)}"

    _say(say, storage, schema)


@limits.command("unset")
@_name_argument
@_key_option
@options.storage_option
@options.schema_option
def unset_limit(*, name: str, key: str | None, storage: str | None, schema: str) -> None:
    """Have what the code says hold again; for one key, what holds for all."""

    def say(limits: ClientLimits) -> str:
        limits.unset(name, key=key)
        return f"unset {_of(name, key)}"

    _say(say, storage, schema)


def _say(say: Any, storage: str | None, schema: str) -> None:
    from synk.limits import ClientLimits  # noqa: PLC0415 - as above

    with options.storage_of(storage, schema) as database:
        click.echo(say(ClientLimits(database)))


def _of(name: str, key: str | None) -> str:
    return printable(name) if key is None else f"{printable(name)} for {printable(key)}"


def _number(text: str) -> int | None:
    if text == _NO_LIMIT:
        return None
    if not text.isdecimal():
        raise ConfigurationError("--running", text, "must be a number, or 'none'")
    return int(text)


def _rate(text: str) -> Rate | None:
    if text == _NO_LIMIT:
        return None
    found = _RATE.fullmatch(text)
    if found is None:
        raise ConfigurationError("--rate", text, "must be as 100/1m or 5/s, or 'none'")
    seconds = float(found[2] or 1) * _UNITS[found[3]]
    return int(found[1]), dt.timedelta(seconds=seconds)


def _as_record(limit: LimitStatus) -> dict[str, Any]:
    return {
        "name": limit.name,
        "key": limit.declared and limit.declared.key,
        "is_declared": limit.declared is not None,
        **_cap(limit.cap),
        "set_for": [{"key": key, **_cap(cap)} for key, cap in sorted(limit.caps.items())],
        "keys": [
            {
                "key": each.key,
                **_cap(limit.cap_of(each.key)),
                "at_work": each.permits,
                "waiting": each.waiting,
                "is_more": each.is_more,
                "begun": _begun(limit.cap_of(each.key), each),
                "supervisors": list(each.owners),
            }
            for each in limit.keys
        ],
        "is_cut": limit.is_cut,
    }


def _begun(cap: Cap, key: Any) -> int | None:
    return None if cap.rate is None else key.begun_in(cap.rate[1])


def _cap(cap: Cap) -> dict[str, Any]:
    rate = cap.rate and {"count": cap.rate[0], "period": cap.rate[1].total_seconds()}
    return {"running": cap.running, "rate": rate}
