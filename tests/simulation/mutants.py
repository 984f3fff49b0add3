"""Supervisors with one mistake each: the simulation must find every one of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import pytest

from simulation.line import Line
from synk.claim import AckAnswer, Outcome
from synk.core.keys import Key
from synk.core.messages import KillReason
from synk.core.ownership import OwnLease, Reconciliation, SecondOpinion, reconcile
from synk.core.pool import Pool
from synk.core.slot import Slot, SlotState
from synk.core.weights import Budget, Load
from synk.errors import StorageUnavailable
from synk.queue_steps import PauseWait
from synk.runtime.supervisor import reconciler
from synk.runtime.supervisor.ack_loop import AckLoop
from synk.runtime.supervisor.claim_loop import ClaimLoop
from synk.runtime.supervisor.keyed_claims import KeyedClaims
from synk.runtime.supervisor.queue_control import QueueControl
from synk.runtime.supervisor.supervisor import Supervisor
from synk.setting import Standing
from synk.status import Lease
from synk.ticks import Plan, Rules, Ticking


class EndlessLease(OwnLease):
    """Once granted, it is never over."""

    def left_s(self, now: float) -> float:
        return float("inf") if super().left_s(now) > float("-inf") else float("-inf")


class LongLease(OwnLease):
    """Lasts for longer than the storage grants it."""

    def __init__(self, ttl_s: float) -> None:
        super().__init__(ttl_s)
        self._more_s = ttl_s * 0.75

    def left_s(self, now: float) -> float:
        return super().left_s(now) + self._more_s


LEASES: Final = [EndlessLease, LongLease]


def _forgets(what: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Compares its jobs, and does nothing about one of the differences."""

    def compared(*args: Any, **options: Any) -> Reconciliation:
        found = reconcile(*args, **options)
        getattr(found, what).clear()
        return found

    return lambda patch: patch.setattr(reconciler, "reconcile", compared)


def _runs_again_what_was_accepted(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AckLoop, "accepted", lambda _: {})


def _takes_what_is_on_its_way_for_lost(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AckLoop, "pending", lambda _: set())


def _offers_an_outcome_once(patch: pytest.MonkeyPatch) -> None:
    def update_job_state(self: Line, owner: UUID, outcomes: Sequence[Outcome]) -> list[AckAnswer]:
        try:
            return self.ask("update_job_state", owner, outcomes)
        except StorageUnavailable:
            # As if there were no need to offer it again, now or later.
            return [AckAnswer.COMPLETED] * len(outcomes)

    patch.setattr(Line, "update_job_state", update_job_state, raising=False)


def _believes_the_storage_s_clock(patch: pytest.MonkeyPatch) -> None:
    def suspects(_: SecondOpinion, leases: Sequence[Lease], now: float) -> list[Lease]:
        return [lease for lease in leases if lease.is_over]

    patch.setattr(SecondOpinion, "suspects", suspects)


def _forgets_the_permits_of_a_lost_claim(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(KeyedClaims, "compare", lambda _: None)


def _takes_a_permit_that_is_used_for_free(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Key, "free", property(lambda key: len(key.permits) - key.in_line))


def _frees_a_permit_before_its_process_is_gone(patch: pytest.MonkeyPatch) -> None:
    kill = Pool._kill

    def killed(pool: Pool, slot: Slot, reason: KillReason) -> None:
        pool.keyed.over([held.job for held in slot.in_flight])
        kill(pool, slot, reason)

    patch.setattr(Pool, "_kill", killed)


def _gives_permits_back_while_its_workers_end(patch: pytest.MonkeyPatch) -> None:
    close = ClaimLoop.close

    def closed(loop: ClaimLoop) -> None:
        close(loop)
        if loop._keyed is not None:
            loop._keyed.give_back_all()

    patch.setattr(ClaimLoop, "close", closed)


def _skips_ticks_without_a_word(patch: pytest.MonkeyPatch) -> None:
    def plan(rules: Rules, ticking: Ticking, first: dt.datetime, now: dt.datetime) -> Plan:
        found = _plan(rules, ticking, first, now)
        return Plan(found.run, found.next_at)

    patch.setattr(Rules, "plan", plan)


_plan: Final = Rules.plan


def _gives_room_back_before_a_process_is_gone(patch: pytest.MonkeyPatch) -> None:
    load_on = Budget.load_on

    def alive(budget: Budget, slots: Iterable[Slot]) -> Load:
        return load_on(budget, [slot for slot in slots if slot.state is not SlotState.KILLING])

    patch.setattr(Budget, "load_on", alive)


def _begins_whatever_waits(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Budget, "fits", lambda *_: True)


def _says_that_a_pause_is_in_force_and_goes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(QueueControl, "apply", lambda *_: None)


def _looks_at_the_settings_once_it_has_begun(patch: pytest.MonkeyPatch) -> None:
    begin = Supervisor.begin

    def begun(supervisor: Supervisor) -> None:
        settings: Any = supervisor.settings
        settings.refresh = lambda: None
        begin(supervisor)
        del settings.refresh

    patch.setattr(Supervisor, "begin", begun)


def _takes_up_a_lease_with_former_settings(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Supervisor, "_on_regaining", lambda _: None)


def _waits_for_none_whose_lease_is_over_by_the_storage_s_clock(patch: pytest.MonkeyPatch) -> None:
    behind = PauseWait.behind

    def behind_by_its_word(
        wait: PauseWait, standings: Sequence[Standing], now: float
    ) -> list[Standing]:
        return behind(wait, [each for each in standings if each.left_s > 0], now)

    patch.setattr(PauseWait, "behind", behind_by_its_word)


MISTAKES: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "keeps claims that it knows nothing of": _forgets("ghosts"),
    "goes on with what is not its own": _forgets("gone"),
    "runs again what was accepted": _runs_again_what_was_accepted,
    "takes what is on its way for lost": _takes_what_is_on_its_way_for_lost,
    "offers an outcome once": _offers_an_outcome_once,
    "believes the storage's clock": _believes_the_storage_s_clock,
    "forgets the permits of a lost claim": _forgets_the_permits_of_a_lost_claim,
    "takes a permit that is used for free": _takes_a_permit_that_is_used_for_free,
    "frees a permit before its process is gone": _frees_a_permit_before_its_process_is_gone,
    "gives permits back while its workers end": _gives_permits_back_while_its_workers_end,
    "skips ticks without a word": _skips_ticks_without_a_word,
    "gives room back before a process is gone": _gives_room_back_before_a_process_is_gone,
    "begins whatever waits": _begins_whatever_waits,
}


ABOUT_PAUSES: Final[dict[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "says that a pause is in force and goes on": _says_that_a_pause_is_in_force_and_goes_on,
    "looks at the settings once it has begun": _looks_at_the_settings_once_it_has_begun,
    "takes up a lease with former settings": _takes_up_a_lease_with_former_settings,
    "waits by the storage's clock": _waits_for_none_whose_lease_is_over_by_the_storage_s_clock,
}


@contextmanager
def mistaken(name: str) -> Iterator[None]:
    """Has all supervisors make a mistake."""
    with pytest.MonkeyPatch.context() as patch:
        (MISTAKES | ABOUT_PAUSES)[name](patch)
        yield
