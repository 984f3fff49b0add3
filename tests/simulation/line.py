"""The way to the storage, on which questions and answers get lost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random
from typing import Any, Final
from uuid import UUID

from simulation.ledger import Ledger
from simulation.schedule import Schedule
from support.model import ModelStorage
from synk.errors import NotUnique, StorageUnavailable, UnknownDependency
from synk.storage import migrate

HANGS_S: Final = 5.0
"""How long a caller waits for an answer that does not come."""

LATE_S: Final = 3.0
"""How long after its caller gave up a question may still have its effect."""

SLOW_S: Final = 2.0
"""How long a question or an answer is on its way, where things go wrong."""

FATES: Final = ("lost", "unanswered", "late")


def _unheard(ask: Callable[[], Any]) -> None:
    """The effect of a question whose answer nobody waits for."""
    with suppress(UnknownDependency, NotUnique):
        ask()


def _asked(line: Line, method: str, *args: Any, **options: Any) -> Any:
    return line.ask(method, *args, **options)


class Heartbeat:
    schema_version = migrate.LATEST

    def __init__(self, line: Line, owner: UUID) -> None:
        self._line = line
        self._owner = owner
        self._resets = line.resets

    def beat(self) -> Any:
        if self._line.resets != self._resets:
            raise StorageUnavailable("the heartbeat's connection was reset")
        return self._line.renew(self._owner)


class Line:
    """What one user of the storage has in place of it.

    Args:
        wait: waits so many seconds, and until its user can go on.
    """

    schema = None

    def __init__(
        self, schedule: Schedule, ledger: Ledger, chance: Random, wait: Callable[[float], None]
    ) -> None:
        self._schedule = schedule
        self._ledger = ledger
        self._chance = chance
        self._wait = wait
        self.losses = 0.0
        """What part of the calls goes wrong, or is slow."""
        self.cut_until = 0.0
        self.hangs = False
        """Whether a line that is cut leaves its users waiting."""
        self.late_s: dict[str, float] = {}
        """By method, after how long each question has its effect, whose caller gave it up."""
        self.held_until: dict[str, float] = {}
        """Until when questions are on their way, by method."""
        self.resets = 0
        """Heard of by the heartbeat, whose connection is its own: others look at theirs."""

    def __getattr__(self, method: str) -> Callable[..., Any]:
        if not hasattr(ModelStorage, method):
            raise AttributeError(method)
        return functools.partial(self.ask, method)

    # Named: a protocol that is looked for is not found by what is made up on the way.
    claim_keyed = functools.partialmethod(_asked, "claim_keyed")
    release_permits = functools.partialmethod(_asked, "release_permits")
    permits = functools.partialmethod(_asked, "permits")
    key_jobs = functools.partialmethod(_asked, "key_jobs")

    def __repr__(self) -> str:
        return "a line"

    def ask(self, method: str, *args: Any, **options: Any) -> Any:
        self._wait(max(0.0, self.held_until.get(method, 0.0) - self._schedule.now))
        if late_s := self.late_s.get(method):
            effect = functools.partial(self._ledger.call, method, *args, **options)
            self._schedule.after(late_s, lambda: _unheard(effect))
            raise StorageUnavailable("the question is late")
        return self._call(lambda: self._ledger.call(method, *args, **options))

    # By name, as all of `RuntimeSettings`: who is asked for it is looked at, and not asked.
    settings = functools.partialmethod(ask, "settings")
    change_settings = functools.partialmethod(ask, "change_settings")
    report_in_force = functools.partialmethod(ask, "report_in_force")
    standings = functools.partialmethod(ask, "standings")
    count_running = functools.partialmethod(ask, "count_running")

    @contextmanager
    def heartbeat(self, owner: UUID) -> Iterator[Heartbeat]:
        yield Heartbeat(self, owner)

    def reset(self) -> None:
        """Breaks all its connections; what is under way fails, wherever it is."""
        self.resets += 1

    def _call(self, ask: Callable[[], Any]) -> Any:
        resets = self.resets
        self._wait(self._latency())
        if self.resets != resets:
            raise StorageUnavailable("the connection was reset before the question arrived")
        if self._schedule.now < self.cut_until:
            self._wait(HANGS_S if self.hangs else 0.0)
            raise StorageUnavailable("the line is cut")
        is_lost = self._chance.random() < self.losses
        fate = self._chance.choice(FATES) if is_lost else ""
        if fate == "late":
            self._schedule.after(self._chance.uniform(0, LATE_S), lambda: _unheard(ask))
        if fate in ("lost", "late"):
            raise StorageUnavailable("the question was lost")
        answer = ask()
        self._wait(self._latency())
        is_broken = self.resets != resets or self._schedule.now < self.cut_until
        if fate == "unanswered" or is_broken:
            raise StorageUnavailable("the answer was lost")
        return answer

    def _latency(self) -> float:
        is_slow = self._chance.random() < self.losses
        return self._chance.uniform(0.1, SLOW_S) if is_slow else self._chance.uniform(0.0005, 0.003)
