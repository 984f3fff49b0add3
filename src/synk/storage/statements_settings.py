"""The statements of settings that change while supervisors run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from synk.setting import Setting, Settings, Standing
from synk.storage import reading
from synk.storage.statement import Statement, StatementsOfSchema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from synk.setting import SettingChange


class SettingsStatements(StatementsOfSchema):
    """The statements of `synk.storage.settings.RuntimeSettings`."""

    def settings(self) -> Statement[Settings]:
        """See `RuntimeSettings.settings`."""
        return self._asking("settings", _settings)

    def change_settings(self, changes: Sequence[SettingChange]) -> Statement[None]:
        """See `RuntimeSettings.change_settings`."""
        return self._telling(
            "change_settings",
            scopes=[change.scope for change in changes],
            names=[change.name for change in changes],
            values=[
                None if change.value is None else msgspec.json.encode(change.value).decode()
                for change in changes
            ],
        )

    def report_in_force(self, owner: UUID, settings: Settings) -> Statement[bool]:
        """See `RuntimeSettings.report_in_force`."""
        return Statement(
            self._text("report_in_force"),
            {"owner": owner, "revision": settings.revision, "text": settings.text},
            lambda _, number: number == 1,
        )

    def count_running(self, queue: str | None, owner: UUID | None) -> Statement[int]:
        """See `RuntimeSettings.count_running`."""
        return Statement(
            self._text("count_running"), {"queue": queue, "owner": owner}, reading.first_value
        )

    def oldest_due(self) -> Statement[dict[str, float]]:
        """Answers for how many seconds the first job that may begin has waited, by queue."""
        return self._asking(
            "oldest_due", lambda rows, _: {row["queue"]: row["age_s"] for row in rows}, binary=True
        )

    def standings(self) -> Statement[list[Standing]]:
        """See `RuntimeSettings.standings`."""
        return self._asking("standings", reading.records(Standing), binary=True)


def _settings(rows: reading.Records, _: int) -> Settings:
    """Returns what settings.sql answers."""
    (row,) = rows
    return Settings(
        row["revision"], msgspec.json.decode(row["text"], type=list[Setting]), row["text"]
    )
