"""What ``synk queues`` shows: a line a queue, with what was said of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from synk.queue_words import ALL, MAX_WORKERS, PAUSED, QueueWord, QueueWords
from synk.show.values import counted, duration, plain, when

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from synk.setting import Settings, Standing
    from synk.status import QueueDepths


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A queue on one supervisor that serves it, and what was said of it there."""

    supervisor: Standing
    paused: QueueWord | None
    max_workers: QueueWord | None
    is_in_force: bool
    """Whether it works by all that was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """A queue; what was said of it on all supervisors, and on each."""

    queue: str
    available: int
    running: int
    oldest_due_s: float | None
    """For how many seconds the first job that may begin has waited; None: there is none."""
    paused: QueueWord | None
    max_workers: QueueWord | None
    served: Sequence[Served]


def rows_of(
    *,
    depths: QueueDepths,
    oldest: Mapping[str, float],
    standings: Sequence[Standing],
    settings: Settings,
) -> list[QueueRow]:
    """Returns what there is of each queue, by name; first all together, if they were paused so."""
    words = QueueWords(settings)
    said = {word.queue for name in (PAUSED, MAX_WORKERS) for word in words.of(name)} - {ALL}
    served = {name for each in standings for name in each.queues}
    names = sorted({*depths.available, *depths.running, *served, *said})
    return [
        QueueRow(
            queue=name,
            available=depths.available.get(name, 0),
            running=depths.running.get(name, 0),
            oldest_due_s=oldest.get(name),
            paused=words.paused(name, None),
            max_workers=words.last(MAX_WORKERS, name, None),
            served=[
                Served(
                    supervisor=each,
                    paused=words.paused(name, each.id),
                    max_workers=words.last(MAX_WORKERS, name, each.id),
                    is_in_force=each.revision >= settings.revision,
                )
                for each in standings
                if name in each.queues
            ],
        )
        for name in names
    ]


def queues_table(rows: Sequence[QueueRow], now: dt.datetime) -> Table:
    """Returns a line a queue."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("queue", overflow="ellipsis", no_wrap=True)
    for heading in ("waiting", "running", "oldest due", "at once"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("served by", no_wrap=True)
    table.add_column("paused", overflow="ellipsis", no_wrap=True)
    for row in rows:
        count = len(row.served)
        table.add_row(
            plain(row.queue),
            counted(row.available),
            f"{row.running:,}",
            duration(row.oldest_due_s),
            _sizes(row),
            Text(f"{count} supervisor{'' if count == 1 else 's'}" if count else "nobody"),
            Text(paused(row, now), style="red"),
        )
    return table


def paused(row: QueueRow, now: dt.datetime) -> str:
    """Says where a queue is paused, by whom and since when; empty: nowhere."""
    words = [each.paused for each in row.served if each.paused]
    word = row.paused or next(iter(words), None)
    if word is None:
        return ""
    text = f"by {plain(word.by)}, {when(word.at, now)}" if word.by else when(word.at, now)
    is_all = row.paused is not None and len(words) == len(row.served)
    if not is_all and row.served:
        return f"on {len(words)} of {len(row.served)}, {text}"
    late = sum(not each.is_in_force for each in row.served)
    return f"{text} (not yet confirmed by {late})" if late else text


def _sizes(row: QueueRow) -> str:
    words = [each.max_workers for each in row.served] or [row.max_workers]
    sizes = {word.value or 0 if word else 0 for word in words}
    return ", ".join(f"{size:,}" if size else "as configured" for size in sorted(sizes))
