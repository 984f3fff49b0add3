"""The statements of periodic jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synk.periodic import Schedule
from synk.row import Change
from synk.storage import reading
from synk.storage.scheduling import DueSchedules, Taken
from synk.storage.statement import Statement, StatementsOfSchema
from synk.tick_key import key_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any
    from uuid import UUID

    from synk.periodic import Definition
    from synk.storage.scheduling import TickSwap


class PeriodicStatements(StatementsOfSchema):
    """The statements of `synk.storage.scheduling.Scheduling`."""

    def declare_schedule(self, definition: Definition) -> Statement[bool | None]:
        """See `Scheduling.declare_schedule`."""
        return Statement(
            self._text("declare_schedule"),
            {
                "name": definition.name,
                "cron": definition.cron,
                "every": definition.every,
                "tz": definition.tz,
                "missed": definition.missed,
                "max_late": definition.max_late,
                "jitter": definition.jitter,
                "overlap": definition.overlap,
                "kind": definition.kind,
                "args": definition.args,
                "queue": definition.queue,
                "priority": definition.priority,
                "max_attempts": definition.max_attempts,
                "tags": list(definition.tags) or None,
                "meta": definition.meta,
                "start_within": definition.start_within,
                "keep": definition.keep,
                "limit_name": definition.limit_name,
                "limit_path": list(definition.limit_path),
                "hash": definition.hash,
            },
            reading.first_value,
        )

    def note_declared(self, owner: UUID, names: Sequence[str]) -> Statement[None]:
        """See `Scheduling.note_declared`."""
        return self._telling("note_declared", owner=owner, names=list(names))

    def due_schedules(self, limit: int) -> Statement[DueSchedules]:
        """See `Scheduling.due_schedules`."""
        return self._asking("due_schedules", _due_schedules, binary=True, limit=limit)

    def take_ticks(self, swap: TickSwap) -> Statement[Taken | None]:
        """See `Scheduling.take_ticks`."""
        return self._asking(
            "take_ticks",
            lambda rows, _: Taken(rows[0]["job_ids"], rows[0]["busy_with"]) if rows else None,
            binary=True,
            name=swap.name,
            version=swap.version,
            was=swap.was,
            next_at=swap.next_at,
            last_at=swap.ticks[-1] if swap.ticks else None,
            ticks=list(swap.ticks),
            delays=list(swap.delays),
            keys=[key_of(swap.name, tick) for tick in swap.ticks],
            skipped=swap.skipped,
        )

    def schedules(self) -> Statement[list[Schedule]]:
        """See `Scheduling.schedules`."""
        return self._asking(
            "schedules", lambda rows, _: [_schedule(row) for row in rows], binary=True
        )

    def pause_schedule(self, name: str) -> Statement[Change]:
        """See `Scheduling.pause_schedule`."""
        return self._named("pause_schedule", name)

    def resume_schedule(self, name: str) -> Statement[Change]:
        """See `Scheduling.resume_schedule`."""
        return self._named("resume_schedule", name)

    def remove_schedule(self, name: str) -> Statement[Change]:
        """See `Scheduling.remove_schedule`."""
        return self._named("remove_schedule", name)

    def _named(self, file: str, name: str) -> Statement[Change]:
        return Statement(self._text(file), {"name": name}, lambda rows, _: Change(rows[0][0]))

    def run_schedule(self, name: str) -> Statement[int | None]:
        """See `Scheduling.run_schedule`."""
        return Statement(self._text("run_schedule"), {"name": name}, reading.first_value)


def _due_schedules(rows: reading.Records, _: int) -> DueSchedules:
    """Returns what due_schedules.sql answers, whose rows all begin with the look's own columns."""
    looks = [(row.pop("now"), row.pop("wake_at")) for row in rows]
    now, wake_at = looks[0]
    return DueSchedules(now, wake_at, [_schedule(row) for row in rows if row["name"] is not None])


def _schedule(row: dict[str, Any]) -> Schedule:
    row["tags"], row["limit_path"] = tuple(row["tags"]), tuple(row["limit_path"])
    return Schedule(**row)
