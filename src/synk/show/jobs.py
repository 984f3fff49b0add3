"""Jobs on a terminal: a table of many, one in full, and its failed attempts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from synk.row import FOR_EVER
from synk.show.console import WIDE_ENOUGH
from synk.show.values import duration, plain, size, state, when

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

    from rich.console import RenderableType

    from synk.failure import AttemptError
    from synk.row import JobRow, ListedJob, Progress
    from synk.unique import UniqueScope

_LISTED: Final = 100
"""Ids of a kind; those of dependencies may be many thousands."""


def job_table(rows: Iterable[ListedJob], now: dt.datetime, *, width: int | None = None) -> Table:
    """Returns a line a job.

    Args:
        rows: the jobs.
        now: the present.
        width: columns of the terminal; a narrow one has no room for everything. None: any number.
    """
    headings = ["id", "state", "kind", "queue", "name", "attempts", "last", "took"]
    if width is not None and width < WIDE_ENOUGH:
        headings = [each for each in headings if each != "queue"]
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in ("id", "attempts") else "left",
            no_wrap=True,
            overflow="ellipsis",
            # What is not whole says nothing; of a name the beginning does.
            min_width=None if heading in ("kind", "queue", "name") else _widest(heading),
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
        }
        table.add_row(*(cells[heading] for heading in headings))
    return table


def _widest(heading: str) -> int:
    return {"state": 22, "last": 10, "took": 6}.get(heading, len(heading))


def one_job(row: JobRow, now: dt.datetime, *, problem: str = "") -> RenderableType:
    """Returns everything about one job, and what keeps it from running, if anything does."""
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    for name, value in _facts(row, now):
        facts.add_row(name, value)
        if name == "state" and problem:
            facts.add_row("waits", Text(problem, style="red"))
    title = Text(f"job {row.id} ", style="bold").append_text(plain(row.name))
    return Group(title, facts, *(failed_attempt(each) for each in row.errors))


def _facts(row: JobRow, now: dt.datetime) -> Iterable[tuple[str, RenderableType]]:
    yield "state", state(row)
    yield "kind", plain(row.kind)
    yield "queue", plain(f"{row.queue}, priority {row.priority.name.lower()}")
    if row.tags:
        yield "tags", plain(", ".join(row.tags))
    yield "args", Text(_shortened(json.dumps(row.args), 2000))
    if row.meta:
        yield "meta", Text(_shortened(json.dumps(row.meta), 2000))
    yield "attempts", Text(_attempts(row))
    for name in ("created_at", "scheduled_at", "attempted_at", "finalized_at"):
        moment: dt.datetime | None = getattr(row, name)
        if moment is not None:
            yield name, Text(f"{moment.isoformat(sep=' ')} ({when(moment, now)})")
    for name in ("attempted_by", "depends_on", "waiting_on"):
        values: list[object] = getattr(row, name)
        if values:
            rest = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
            yield name, Text(", ".join(map(str, values[:_LISTED])) + rest)
    if row.start_before is not None:
        yield (
            "start_before",
            Text(f"{row.start_before.isoformat(sep=' ')} ({when(row.start_before, now)})"),
        )
    if row.keep is not None:
        yield "kept", Text("for ever" if row.keep >= FOR_EVER else f"{row.keep} after its end")
    if row.cancel_requested_at is not None and not row.state.is_final:
        yield "cancel", Text(f"requested {when(row.cancel_requested_at, now)}")
    yield from _traces(row)


def _scope(scope: UniqueScope, job_id: int) -> str:
    """What a job is unique by, and who is in its scope."""
    by = ", ".join(("kind", *scope.by))
    period = f", in {scope.period} from {scope.begins}" if scope.period else ""
    who = "nobody" if scope.job_id is None else f"job {scope.job_id}"
    held = "it is in its scope" if scope.job_id == job_id else f"{who} is in its scope"
    return f"by {by}{period}, until {scope.until}; {held}"


def _attempts(row: JobRow) -> str:
    charged = f"{row.attempt - row.uncounted} of {row.max_attempts}"
    extra = f", and {row.uncounted} not charged" if row.uncounted else ""
    return charged + extra + (f"; it snoozed {row.snoozes} times" if row.snoozes else "")


def _traces(row: JobRow) -> Iterable[tuple[str, RenderableType]]:
    """What its attempts have left behind, but for the errors; and the scope that they have left."""
    if row.unique is not None:
        yield "unique", plain(_scope(row.unique, row.id))
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


def failed_attempt(record: AttemptError, *, lines: int | None = None) -> RenderableType:
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


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
