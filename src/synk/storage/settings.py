"""What is asked of a storage for settings that change while supervisors run.

Not part of the contract in `synk.storage.base`: a storage without it has no such settings, and what
needs them says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from synk.setting import SettingChange, Settings, Standing


@runtime_checkable
class RuntimeSettings(Protocol):
    """Settings, one number for all changes of them, and who has which in force.

    Each method is one transaction, and raises what those of `Storage` do.
    """

    def settings(self) -> Settings:
        """Returns all settings, as they were at one moment, with the revision of that moment."""
        ...

    def change_settings(self, changes: Sequence[SettingChange]) -> None:
        """Makes *changes*, all or none, and announces to supervisors that there were some.

        The revision grows. Settings of supervisors that have ended are removed with it. Safe to
        repeat.

        Raises:
            InvalidJob: the storage refuses a value.
        """
        ...

    def report_in_force(self, owner: UUID, settings: Settings) -> bool:
        """Notes that *owner* works by *settings* if these are the ones that hold now.

        Returns whether they are; if not, there are others to be read.
        """
        ...

    def count_running(self, queue: str | None, owner: UUID | None) -> int:
        """Returns how many jobs of *queue* (None: of all) run for *owner* (None: for anybody)."""
        ...

    def standings(self) -> list[Standing]:
        """Returns the supervisors that may still own jobs, with what each has in force."""
        ...
