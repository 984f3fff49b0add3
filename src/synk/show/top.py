"""What ``synk top`` shows: supervisors, queues, busy worker slots, the last errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from synk.queue_words import QueueWords
from synk.setting import Settings
from synk.show.values import counted, duration, plain, size
from synk.status import client_id_of, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from synk.row import Progress
    from synk.status import ClientRow, QueueDepths, RecentError, SlotStatus, UnknownKind

_ERRORS_SHOWN: Final = 5
_ERRORS_AT_LEAST: Final = 2
_KINDS_SHOWN: Final = 3
_QUEUES_AT_LEAST: Final = 4
_BAR: Final = 8
_NUMBER: Final = {"job": 6, "pid": 5, "for": 6, "memory": 6, "ago": 6, "CPU": 4}
"""Columns that numbers need in a narrow terminal."""


_NOTHING_SAID: Final = QueueWords(Settings())


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What there is at one moment: what supervisors reported last, and what waits."""

    database: str
    clients: Sequence[ClientRow]
    depths: QueueDepths
    unknown: Sequence[UnknownKind] = ()
    words: QueueWords = _NOTHING_SAID


def overview(seen: Overview, *, height: int | None = None) -> RenderableType:
    """Returns the picture: the whole one, or as much of it as *height* lines have room for.

    Workers that are busy come before all but the newest errors, and what is left out is counted.
    """
    running = [client for client in seen.clients if client.runs]
    lost = [client for client in seen.clients if not client.runs and client.stopped_at is None]
    errors = _recent(seen.clients)
    room = _room(seen, running, len(lost), len(errors), height)
    gap = [Text()] if room.gaps else []
    parts: list[RenderableType] = [_title(seen, running), *gap, _queues(seen, running, room.queues)]
    parts += _unknown(seen.unknown)
    left = room.busy
    for client in running:
        busy = [slot for slot in client.slots if slot.job_id is not None]
        shown = busy[: max(0, left)]
        left -= len(shown)
        parts += [*gap, _client(client), *_slots(shown, len(busy), len(client.slots))]
    parts += [_lost(client) for client in lost]
    if errors:
        parts += [*gap, Text("last errors", style="bold"), _errors(errors[: room.errors])]
    return Group(*parts)


@dataclass(frozen=True, slots=True)
class _Room:
    """How many lines each part may have."""

    queues: int
    busy: int
    errors: int
    gaps: bool


def _room(
    seen: Overview, running: Sequence[ClientRow], lost: int, errors: int, height: int | None
) -> _Room:
    queues = len(_names(seen, running))
    busy = sum(slot.job_id is not None for client in running for slot in client.slots)
    errors = min(errors, _ERRORS_SHOWN)
    # The title, headings, and of each supervisor its own line, a heading and the idle ones.
    fixed = 2 + 1 + 3 * len(running) + lost + (2 if errors else 0)
    # A line more for the kinds that are only counted.
    fixed += min(len(seen.unknown), _KINDS_SHOWN + 1)
    # The last line stays free for the cursor.
    left = (height or 0) - 1 - fixed
    gaps = 2 + len(running)
    if height is None or gaps + queues + busy + errors <= left:
        return _Room(queues, busy, errors, gaps=True)
    queues, errors = min(queues, _QUEUES_AT_LEAST), min(errors, _ERRORS_AT_LEAST)
    return _Room(queues, max(1, left - queues - 1 - errors), errors, gaps=False)


def _title(seen: Overview, running: Sequence[ClientRow]) -> Text:
    workers = sum(client.processes for client in running)
    busy = sum(slot.job_id is not None for client in running for slot in client.slots)
    title = Text("synk top  ", style="bold").append(seen.database, style="dim")
    title.append(f"\n{_plural(len(running), 'supervisor')}, {busy} of {workers} workers busy, ")
    title.append(f"{counted(seen.depths.scheduled)} scheduled")
    return title


def _names(seen: Overview, running: Sequence[ClientRow]) -> list[str]:
    """Returns the names of the queues, those first that want something."""
    served = {name for client in running for name in client.queues}
    waiting, runs = seen.depths.available, seen.depths.running
    names = {*served, *waiting, *runs}
    return sorted(names, key=lambda name: (not (waiting.get(name) or runs.get(name)), name))


def _queues(seen: Overview, running: Sequence[ClientRow], shown: int) -> RenderableType:
    served = [name for client in running for name in client.queues]
    names = _names(seen, running)
    if not names:
        return Text("no queues: no supervisor runs, and no job waits", style="dim")
    table = _table("queue", ">available", ">running", "served by", "paused")
    for name in names[:shown]:
        count = served.count(name)
        table.add_row(
            plain(name),
            counted(seen.depths.available.get(name, 0)),
            f"{seen.depths.running.get(name, 0):,}",
            Text(_plural(count, "supervisor") if count else "nobody", style="" if count else "red"),
            _paused(seen, running, name),
        )
    if not any(_paused(seen, running, name) for name in names[:shown]):
        table.columns.pop()
    if len(names) <= shown:
        return table
    return Group(table, Text(f"and {_plural(len(names) - shown, 'queue')} more", style="dim"))


def _paused(seen: Overview, running: Sequence[ClientRow], queue: str) -> Text:
    """Says by whom a queue is paused, and on how many supervisors if not on all."""
    serving = [client for client in running if queue in client.queues]
    words = [word for client in serving if (word := seen.words.paused(queue, client.id))]
    word = seen.words.paused(queue, None) or next(iter(words), None)
    if word is None:
        return Text()
    where = f"on {len(words)} " if len(words) < len(serving) else ""
    return Text(f"{where}by {printable(word.by) or '?'}", style="red")


def _unknown(kinds: Sequence[UnknownKind]) -> Iterable[RenderableType]:
    for each in kinds[:_KINDS_SHOWN]:
        yield Text(str(each), style="red", no_wrap=True, overflow="ellipsis")
    if len(kinds) > _KINDS_SHOWN:
        yield Text(f"nor {_plural(len(kinds) - _KINDS_SHOWN, 'kind')} more", style="red")


def _client(client: ClientRow) -> Text:
    text = Text(client_id_of(client.id), style="bold", no_wrap=True, overflow="ellipsis")
    seen = f"seen {duration(client.unseen)} ago"
    where = f"  {client.host} pid {client.pid}  {seen}, synk {client.version}"
    return text.append(where + _weight(client.slots), style="not bold dim")


def _weight(slots: Sequence[SlotStatus]) -> str:
    """Says what running jobs weigh, of those whose kinds say that."""
    cores = sum(slot.cores or 0 for slot in slots)
    memory = sum(slot.memory or 0 for slot in slots)
    parts = [_plural(cores, "core")] if cores else []
    parts += [size(memory)] if memory else []
    return f", {' and '.join(parts)} taken" if parts else ""


def _lost(client: ClientRow) -> Text:
    where = f"{client_id_of(client.id)} on {client.host} pid {client.pid}"
    return Text(f"{where} was last seen {duration(client.unseen)} ago", style="red")


def _slots(shown: Sequence[SlotStatus], busy: int, slots: int) -> Iterable[RenderableType]:
    if shown:
        yield _slot_table(shown)
    idle = _plural(slots - busy, "worker") + " idle"
    hidden = f"and {busy - len(shown)} busy ones more, " if busy > len(shown) else ""
    if hidden or busy < slots:
        yield Text(hidden + idle, style="dim")


def _slot_table(slots: Iterable[SlotStatus]) -> Table:
    table = _table(">slot", ">pid", ">job", "kind", "name", ">for", ">CPU", ">memory", "progress")
    for slot in slots:
        table.add_row(
            str(slot.slot),
            "-" if slot.pid is None else str(slot.pid),
            str(slot.job_id),
            plain(slot.kind),
            plain(slot.name[:40]),
            duration(slot.seconds),
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
    line.add_row(ProgressBar(total=1.0, completed=value.share, width=_BAR), text)
    return line


def _recent(clients: Sequence[ClientRow]) -> list[tuple[float, RecentError]]:
    """Returns how long ago each error was, and the error; the last one first."""
    found = [
        (error.seconds + client.unseen.total_seconds(), error)
        for client in clients
        for error in client.errors
    ]
    return sorted(found, key=lambda pair: pair[0])


def _errors(found: Iterable[tuple[float, RecentError]]) -> Table:
    table = _table(">ago", ">job", ">attempt", "kind", "error")
    for seconds, error in found:
        table.add_row(
            duration(seconds),
            str(error.job_id),
            str(error.attempt),
            plain(error.kind),
            Text(error.error, style="red", overflow="ellipsis", no_wrap=True),
        )
    return table


def _table(*headings: str) -> Table:
    """Returns a table without lines; a heading that begins with > is a column of numbers.

    Each row is one line: numbers are whole, and what is too long ends with an ellipsis.
    """
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        name = heading.lstrip(">")
        table.add_column(
            name,
            justify="left" if name == heading else "right",
            no_wrap=True,
            overflow="ellipsis",
            min_width=len(name) if name == heading else max(len(name), _NUMBER.get(name, 0)),
        )
    return table


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
