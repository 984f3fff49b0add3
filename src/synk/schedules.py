"""Periodic jobs from the outside: ``client.periodic`` lists, pauses, runs and removes them.

What code declares is given to the client, and stored by each supervisor that starts; see
`synk.periodic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from synk.errors import ConfigurationError
from synk.storage.scheduling import Scheduling

if TYPE_CHECKING:
    from synk.limit import Limits
    from synk.periodic import Periodic, Schedule
    from synk.registry import Registry
    from synk.row import Change
    from synk.storage.async_postgres import AsyncPostgresStorage

Schedules: TypeAlias = "list[Schedule]"


class PeriodicJobs:
    """The periodic jobs of a storage, whoever has declared them.

    All of it is in the database: supervisors hear of it within moments, whatever they run.

    Args:
        storage: where they are.
        registry: says what inserts of each kind default to.
        limits: those that jobs have.
    """

    def __init__(self, storage: object, registry: Registry, limits: Limits) -> None:
        self._given = storage
        self._registry = registry
        self._limits = limits

    @property
    def _storage(self) -> Scheduling:
        if not isinstance(self._given, Scheduling):
            raise ConfigurationError("storage", self._given, "keeps no periodic jobs")
        return self._given

    def list(self) -> Schedules:
        """Returns all of them, by name.

        Raises:
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.schedules()

    def add(self, periodic: Periodic) -> bool | None:
        """Stores one that no code declares, or that it declares otherwise until it starts anew.

        Returns whether it is new; None if it is there already and says the same.

        Args:
            periodic: what it is.

        Raises:
            ConfigurationError: its arguments are not those of a job.
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.declare_schedule(
            periodic.definition(self._registry.defaults, self._limits)
        )

    def pause(self, name: str) -> Change:
        """Pauses *name*: no tick of it is taken once this has returned, nor made up for later.

        `Change.REFUSED`: it is paused; `Change.GONE`: there is no such.

        Raises:
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.pause_schedule(name)

    def resume(self, name: str) -> Change:
        """Resumes *name*: its ticks count from now on.

        `Change.REFUSED`: it is not paused; `Change.GONE`: there is no such.

        Raises:
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.resume_schedule(name)

    def run_now(self, name: str) -> int | None:
        """Makes a job of *name* now, also if it is paused or its last job is not over.

        Its `Job.tick` is this moment. Returns its id; None if there is no such periodic job.

        Raises:
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.run_schedule(name)

    def remove(self, name: str) -> Change:
        """Removes *name*; its jobs stay. What code declares comes back when that starts anew.

        Raises:
            StorageError: the database could not be reached, or gave up on it.
        """
        return self._storage.remove_schedule(name)


class AsyncPeriodicJobs:
    """The same, awaited.

    Args:
        storage: where they are.
        registry: as in `PeriodicJobs`.
        limits: as in `PeriodicJobs`.
    """

    def __init__(self, storage: AsyncPostgresStorage, registry: Registry, limits: Limits) -> None:
        self._storage = storage
        self._registry = registry
        self._limits = limits

    async def list(self) -> Schedules:
        """See `PeriodicJobs.list`."""
        return await self._storage.ask("schedules")

    async def add(self, periodic: Periodic) -> bool | None:
        """See `PeriodicJobs.add`."""
        return await self._storage.ask(
            "declare_schedule", periodic.definition(self._registry.defaults, self._limits)
        )

    async def pause(self, name: str) -> Change:
        """See `PeriodicJobs.pause`."""
        return await self._storage.ask("pause_schedule", name)

    async def resume(self, name: str) -> Change:
        """See `PeriodicJobs.resume`."""
        return await self._storage.ask("resume_schedule", name)

    async def run_now(self, name: str) -> int | None:
        """See `PeriodicJobs.run_now`."""
        return await self._storage.ask("run_schedule", name)

    async def remove(self, name: str) -> Change:
        """See `PeriodicJobs.remove`."""
        return await self._storage.ask("remove_schedule", name)


def check_scheduling(storage: Any, declared: object) -> None:
    """Checks that a storage keeps periodic jobs if some are *declared*.

    Raises:
        ConfigurationError: it does not.
    """
    if declared and not isinstance(storage, Scheduling):
        raise ConfigurationError("periodic", declared, f"{storage!r} keeps no periodic jobs")
