"""The fleet as an operator wants to see it: supervisors, queues, worker slots, the last errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from synk.show import duration, plain, size
from synk.status import BACKLOG_COUNTED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from synk.row import Progress
    from synk.status import Backlog, ClientRow, SlotStatus

_ERRORS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What there is to see at one moment."""

    database: str
    clients: Sequence[ClientRow]
    backlog: Backlog


def fleet(seen: Fleet) -> RenderableType:
    """Returns the whole picture."""
    running = [client for client in seen.clients if client.runs]
    parts: list[RenderableType] = [_title(seen, running), Text(), _queues(seen, running)]
    for client in running:
        parts += [Text(), _client(client), _slots(client.slots)]
    lost = [client for client in seen.clients if not client.runs and client.stopped_at is None]
    parts += [_lost(client) for client in lost]
    errors = _errors(seen.clients)
    if errors is not None:
        parts += [Text(), Text("last errors", style="bold"), errors]
    return Group(*parts)


def _title(seen: Fleet, running: Sequence[ClientRow]) -> Text:
    workers = sum(client.processes for client in running)
    busy = sum(slot.job_id is not None for client in running for slot in client.slots)
    title = Text("synk top  ", style="bold").append(seen.database, style="dim")
    title.append(f"\n{_plural(len(running), 'supervisor')}, {busy} of {workers} workers busy, ")
    title.append(f"{_counted(seen.backlog.scheduled)} scheduled")
    return title


def _queues(seen: Fleet, running: Sequence[ClientRow]) -> RenderableType:
    served = [name for client in running for name in client.queues]
    names = sorted({*served, *seen.backlog.available, *seen.backlog.running})
    if not names:
        return Text("no queues: no supervisor runs, and no job waits", style="dim")
    table = _table("queue", ">available", ">running", "served by")
    for name in names:
        count = served.count(name)
        table.add_row(
            plain(name),
            _counted(seen.backlog.available.get(name, 0)),
            f"{seen.backlog.running.get(name, 0):,}",
            Text(_plural(count, "supervisor") if count else "nobody", style="" if count else "red"),
        )
    return table


def _client(client: ClientRow) -> Text:
    text = Text(f"{client.host} pid {client.pid}", style="bold")
    seen = f"seen {duration(client.unseen)} ago"
    return text.append(f"  {client.id}  synk {client.version}, {seen}", style="not bold dim")


def _lost(client: ClientRow) -> Text:
    where = f"{client.host} pid {client.pid}"
    return Text(f"\n{where} was last seen {duration(client.unseen)} ago", style="red")


def _slots(slots: Iterable[SlotStatus]) -> Table:
    table = _table(">slot", ">pid", ">job", "kind", "name", ">for", ">CPU", ">memory", "progress")
    for slot in slots:
        table.add_row(
            str(slot.slot),
            "-" if slot.pid is None else str(slot.pid),
            Text("idle", style="dim") if slot.job_id is None else str(slot.job_id),
            plain(slot.kind),
            plain(slot.name[:40]),
            "" if slot.job_id is None else duration(slot.seconds),
            "-" if slot.cpu_share is None else f"{slot.cpu_share:.0%}",
            size(slot.rss_bytes),
            progress(slot.progress),
        )
    return table


def progress(value: Progress | None) -> RenderableType:
    """Returns how far a job is: a bar where the total is known, and the note."""
    if value is None:
        return Text()
    numbers = f"{value.done:g}" + (f"/{value.total:g}" if value.total is not None else "")
    text = Text(f"{numbers} {value.note}".rstrip())
    if value.share is None:
        return text
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(total=1.0, completed=value.share, width=16), text)
    return line


def _errors(clients: Sequence[ClientRow]) -> Table | None:
    found = [
        (error.seconds + client.unseen.total_seconds(), error)
        for client in clients
        for error in client.errors
    ]
    if not found:
        return None
    table = _table(">ago", ">job", ">attempt", "kind", "error")
    for seconds, error in sorted(found, key=lambda pair: pair[0])[:_ERRORS_SHOWN]:
        table.add_row(
            duration(seconds),
            str(error.job_id),
            str(error.attempt),
            plain(error.kind),
            Text(error.error, style="red", overflow="ellipsis", no_wrap=True),
        )
    return table


def _table(*headings: str) -> Table:
    """Returns a table without lines; a heading that begins with > is a column of numbers."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading.lstrip(">"), justify="right" if heading[:1] == ">" else "left")
    return table


def _counted(number: int) -> str:
    return f"{number:,}+" if number >= BACKLOG_COUNTED else f"{number:,}"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
