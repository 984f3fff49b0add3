"""Jobs as a person wants to read them: tables, one job in full, errors, durations."""

from __future__ import annotations

import datetime as dt
import io
import json
from typing import TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from synk.row import JobState
from synk.status import BACKLOG_COUNTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from rich.console import RenderableType

    from synk.failure import AttemptError
    from synk.row import JobRow, KindSummary, Progress

STYLES: Final[Mapping[JobState, str]] = {
    JobState.AVAILABLE: "cyan",
    JobState.SCHEDULED: "blue",
    JobState.PENDING: "magenta",
    JobState.RUNNING: "yellow",
    JobState.COMPLETED: "green",
    JobState.CANCELLED: "red",
}
_SHOWN_ARGS: Final = 60
_LISTED: Final = 100
"""Ids of a kind; those of dependencies may be many thousands."""
_WIDE: Final = 10_000
"""Columns where there is no terminal: no line of a traceback is broken there."""

_WIDE_ENOUGH: Final = 120
"""Columns of a terminal that has room for all that is known of a job."""

_UNITS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def duration(value: dt.timedelta | float | None) -> str:
    """Returns a duration, in seconds if a number, with a fitting unit: ``1.4 s``, ``23 ms``."""
    if value is None:
        return "-"
    seconds = value.total_seconds() if isinstance(value, dt.timedelta) else value
    for size, unit in _UNITS:
        if seconds >= size:
            number = seconds / size
            return f"{number:.1f} {unit}" if number < 10 else f"{number:.0f} {unit}"
    return f"{seconds * 1e6:.0f} µs"


def put(console: Console, shown: RenderableType) -> None:
    """Prints something; where the output is no terminal, without blanks that only fill a line.

    Args:
        console: where to print it; one that is no terminal cuts no line then.
        shown: what to print.
    """
    if console.is_terminal:
        console.print(shown)
        return
    wide = Console(width=_WIDE, file=io.StringIO(), color_system=None)
    with wide.capture() as captured:
        wide.print(shown)
    lines = captured.get().removesuffix("\n").split("\n")
    console.file.write("".join(f"{line.rstrip()}\n" for line in lines))
    console.file.flush()


def plain(text: str) -> Text:
    """Returns text from a row without what would move the cursor or hide the rest of a line."""
    return Text("".join(each if each.isprintable() else "\ufffd" for each in text))


def size(value: int | None) -> str:
    """Returns a number of bytes with a fitting unit: ``34 MB``."""
    if value is None:
        return "-"
    return f"{value / 1e6:.0f} MB" if value < 1e9 else f"{value / 1e9:.1f} GB"


def when(value: dt.datetime | None, now: dt.datetime) -> str:
    """Returns a time as seen from *now*: ``3.0 s ago``, ``in 2.0 h``."""
    if value is None:
        return "-"
    seconds = (now - value).total_seconds()
    if abs(seconds) < 0.5:
        return "now"
    return f"{duration(seconds)} ago" if seconds > 0 else f"in {duration(-seconds)}"


def state(row: JobRow) -> Text:
    """Returns the state in its colour, with the reason of a cancelled job."""
    reason = f" ({row.cancel_reason})" if row.cancel_reason else ""
    return Text(f"{row.state}{reason}", style=STYLES[row.state])


def counts(numbers: Mapping[JobState, int]) -> Text:
    """Returns how many jobs are in each state, on one line."""
    parts = [
        Text(f"{numbers[each]:,} {each}", style=STYLES[each])
        for each in JobState
        if numbers.get(each)
    ]
    return Text("  ").join(parts) if parts else Text("no jobs", style="dim")


def job_table(rows: Iterable[JobRow], now: dt.datetime, *, width: int | None = None) -> Table:
    """Returns a line a job.

    Args:
        rows: the jobs.
        now: the present.
        width: columns of the terminal; a narrow one has no room for everything. None: any number.
    """
    headings = ["id", "state", "kind", "queue", "name", "attempts", "last", "took", "args"]
    if width is not None and width < _WIDE_ENOUGH:
        headings = [each for each in headings if each not in ("queue", "args")]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in ("id", "attempts") else "left",
            no_wrap=True,
            overflow="ellipsis",
            # What is not whole says nothing; of a name the beginning does.
            min_width=None if heading in ("kind", "queue", "name", "args") else _widest(heading),
        )
    for row in rows:
        last = row.finalized_at or row.attempted_at or row.scheduled_at
        cells: dict[str, RenderableType] = {
            "id": str(row.id),
            "state": state(row),
            "kind": plain(row.kind),
            "queue": plain(row.queue),
            "name": plain(row.name),
            "attempts": f"{row.attempt - row.uncounted}/{row.max_attempts}",
            "last": when(last, now),
            "took": duration(row.duration),
            "args": escape(_shortened(json.dumps(row.args), _SHOWN_ARGS)),
        }
        table.add_row(*(cells[heading] for heading in headings))
    return table


def _widest(heading: str) -> int:
    return {"state": 22, "last": 10, "took": 6}.get(heading, len(heading))


def job(row: JobRow, now: dt.datetime, *, problem: str = "") -> RenderableType:
    """Returns everything about one job, and what keeps it from running, if anything does."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in _facts(row, now):
        facts.add_row(name, value)
        if name == "state" and problem:
            facts.add_row("waits", Text(problem, style="red"))
    title = Text(f"job {row.id} ", style="bold").append_text(plain(row.name))
    return Group(title, facts, *(error(each) for each in row.errors))


def _facts(row: JobRow, now: dt.datetime) -> Iterable[tuple[str, RenderableType]]:
    charged = f"{row.attempt - row.uncounted} of {row.max_attempts}"
    extra = f", and {row.uncounted} not charged" if row.uncounted else ""
    yield "state", state(row)
    yield "kind", plain(row.kind)
    yield "queue", plain(f"{row.queue}, priority {row.priority.name.lower()}")
    yield "args", Text(_shortened(json.dumps(row.args), 2000))
    yield "attempts", Text(charged + extra)
    for name in ("created_at", "scheduled_at", "attempted_at", "finalized_at"):
        moment: dt.datetime | None = getattr(row, name)
        if moment is not None:
            yield name, Text(f"{moment.isoformat(sep=' ')} ({when(moment, now)})")
    for name in ("attempted_by", "depends_on", "waiting_on"):
        values: list[object] = getattr(row, name)
        if values:
            rest = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
            yield name, Text(", ".join(map(str, values[:_LISTED])) + rest)
    if row.cancel_requested_at is not None and not row.state.is_final:
        yield "cancel", Text(f"requested {when(row.cancel_requested_at, now)}")
    yield from _traces(row)


def _traces(row: JobRow) -> Iterable[tuple[str, RenderableType]]:
    """What its attempts have left behind, but for the errors."""
    if row.duration is not None:
        yield "took", Text(", ".join(_measures(row)))
    if row.pid is not None:
        yield "ran in", Text(f"pid {row.pid}" + (f" on {row.host}" if row.host else ""))
    if row.crashes:
        yield "crashes", Text(f"{row.crashes} attempts took their worker process with them")
    if row.progress is not None:
        yield "progress", Text(_progress(row.progress))
    if row.checkpoint is not None:
        yield "checkpoint", Text(_shortened(json.dumps(row.checkpoint), 2000))
    if row.result is not None:
        yield "result", Text(_shortened(json.dumps(row.result), 2000))
    if row.output:
        yield "output", Text(row.output.rstrip())


def _measures(row: JobRow) -> Iterable[str]:
    yield duration(row.duration)
    system = f", {duration(row.system_time)} of it in the kernel" if row.system_time else ""
    yield f"CPU {duration(row.cpu_time)}{system}"
    if row.peak_rss_bytes is not None:
        yield f"peak memory {size(row.peak_rss_bytes)}"


def _progress(value: Progress) -> str:
    total = f" of {value.total:g}" if value.total is not None else ""
    share = f" ({value.share:.0%})" if value.share is not None else ""
    return f"{value.done:g}{total}{share} {value.note}".rstrip()


def error(record: AttemptError, *, lines: int | None = None) -> RenderableType:
    """Returns one failed attempt: what it was, and its trace, the last *lines* of it if given."""
    title = Text(f"attempt {record.attempt} ", style="bold")
    title.append(record.cause.value, style="red").append("  ").append(record.error)
    account = ", ".join(_account(record))
    trace = record.trace.rstrip()
    if lines is not None:
        trace = "\n".join(trace.splitlines()[-lines:])
    parts: list[RenderableType] = [Text(account, style="dim")] if account else []
    if trace:
        parts.append(Text(trace, style="dim"))
    if record.output:
        parts += [Text("its last output:", style="dim"), Text(record.output)]
    return Group(title, Padding(Group(*parts), (0, 0, 0, 4), expand=False))


def _account(record: AttemptError) -> Iterable[str]:
    if record.at is not None:
        yield record.at.isoformat(sep=" ", timespec="seconds")
    if record.duration_s is not None:
        yield f"after {duration(record.duration_s)}"
    if record.signal is not None:
        yield record.signal
    if record.exit_code is not None:
        yield f"exit status {record.exit_code}"
    if record.cpu_s is not None:
        system = f", {duration(record.system_s)} in the kernel" if record.system_s else ""
        yield f"CPU {duration(record.cpu_s)}{system}"
    if record.peak_rss_bytes is not None:
        yield f"peak memory {size(record.peak_rss_bytes)}"
    if record.pid is not None:
        yield f"pid {record.pid}" + (f" on {record.host}" if record.host else "")


def summary_table(kinds: Iterable[KindSummary], *, width: int | None = None) -> Table:
    """Returns a line a kind: how many, and how long they took.

    Args:
        kinds: what the jobs of each kind took.
        width: as in `job_table`.
    """
    columns: dict[str, Callable[[KindSummary], str]] = {
        "completed": lambda each: f"{each.completed:,}",
        "cancelled": lambda each: f"{each.cancelled:,}",
        "failed": lambda each: f"{each.failed:,}",
        "unfinished": lambda each: f"{each.unfinished:,}",
        "failed attempts": lambda each: f"{each.errors:,}",
        "p50": lambda each: duration(each.duration_p50),
        "p95": lambda each: duration(each.duration_p95),
        "max": lambda each: duration(each.duration_max),
        "CPU": lambda each: duration(each.cpu_time),
        "peak memory": lambda each: size(each.peak_rss_bytes),
    }
    if width is not None and width < _WIDE_ENOUGH:
        for heading in ("failed attempts", "p95", "CPU", "peak memory"):
            del columns[heading]
    table = Table(box=None, header_style="bold", pad_edge=False)
    kinds = list(kinds)
    # Numbers are whole; of a kind the beginning says something too.
    widths = {
        heading: max(map(len, (*heading.split(), *map(cell, kinds))))
        for heading, cell in columns.items()
    }
    room = None if width is None else max(8, width - sum(each + 2 for each in widths.values()))
    table.add_column("kind", no_wrap=True, overflow="ellipsis", max_width=room)
    for heading, least in widths.items():
        table.add_column(heading, justify="right", min_width=least, max_width=room and least)
    for each in kinds:
        table.add_row(plain(each.kind), *(cell(each) for cell in columns.values()))
    return table


def queue_table(queues: Mapping[str, Mapping[str, int]]) -> Table:
    """Returns a line a queue: how many jobs of it may begin, and how many run."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("queue", overflow="ellipsis", no_wrap=True)
    for heading in ("available", "running"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, numbers in queues.items():
        waiting, runs = numbers["available"], numbers["running"]
        table.add_row(plain(name), counted(waiting), f"{runs:,}")
    return table


def counted(number: int) -> str:
    """Returns a number of jobs, which are counted up to `BACKLOG_COUNTED`."""
    return f"{number:,}+" if number >= BACKLOG_COUNTED else f"{number:,}"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
