"""What the chaos does to its rig: one fault after the other, in rounds in which each kind is.

The seed says in which order the kinds come, and at which statements connections are cut.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import signal
import time
from collections import Counter, deque
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from chaos.jobs import TTL_S
from chaos.standby import NoStandbyError, follow
from synk.runtime.ipc import linux

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chaos.rig import Rig, Supervisor
    from support.proxy import Place, Trap

WEIGHTS: Final = {
    "kill a worker": 5, "stop a worker": 2, "kill a supervisor": 2, "stop a supervisor": 5,
    "end a supervisor": 1, "kill a fork server": 2, "stop a fork server": 1, "reset connections": 3,
    "hold the network": 5, "crash the server": 1, "restart the server": 1, "kill a backend": 1,
    "fail over": 0,
}  # fmt: skip
"""How often each happens beside its once a round, in relation to each other."""

OF_SUPERVISORS: Final = (
    "claim", "ack", "heartbeat", "running", "declare_dead", "rescue",
    "claim_keyed", "release_permits", "report_in_force", "take_ticks",
)  # fmt: skip
OF_USERS: Final = ("insert_many", "COMMIT", "cancel", "insert_unique", "change_settings")
"""Statements at which connections are cut: an insert's own COMMIT is the only one of the users."""
PLACES: Final[dict[Place, str]] = {
    "question": "did not arrive", "sent": "arrived, not waited for", "answer": "answer lost",
}  # fmt: skip
"""What becomes of a statement, by the place at which its connection is cut."""
CUTS: Final = 2
"""How many connections are cut beside each fault, each of them when its statement comes."""

PAUSE_S: Final = (0.1, 1.5)
AWAY_S: Final = ((0.1 * TTL_S, 0.8 * TTL_S), (TTL_S, 1.4 * TTL_S), (2.1 * TTL_S, 3.2 * TTL_S))
"""For how long a supervisor stands still, or is cut off: it keeps its lease; or just loses it; or,
every second time, comes back when its jobs were rescued, waited 4 s and are claimed by others."""
ORPHANS_S: Final = 5.0
"""After its supervisor's death nothing of what that started may live for longer."""


@dataclass(frozen=True)
class Fault:
    """What was done, and when by the monotonic clock."""

    name: str
    at: float
    pid: int
    """The supervisor that was struck whole, or cut off; 0: none was."""


@dataclass(frozen=True)
class Cut:
    """A connection that is cut when a statement comes to a place."""

    statement: str
    trap: Trap


@dataclass(frozen=True)
class Stopped:
    """A time in which a supervisor's process stood still; by the monotonic clock."""

    pid: int
    began: float
    ended: float


class Faults:
    """Shakes a rig for a time, and puts right what can be put right."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self._rig = rig
        self._chance = Random(seed)
        # Of their own: how often the other one is asked depends on how fast all goes.
        self._kinds = Random(f"{seed} kinds")
        self._points = _points(Random(f"{seed} points"))
        self._weights = dict(WEIGHTS)
        self.log: list[Fault] = []
        self.cuts: list[Cut] = []
        self._struck = 0
        """The pid of the supervisor that the present fault strikes."""
        self.stopped: list[Stopped] = []
        self._stopped: set[int] = set()
        """Supervisors that stand still now."""
        self.fail_overs: list[tuple[float, float]] = []
        """From when to when another server took the place of the one before."""
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def shake(self, seconds: float) -> None:
        """Lets things go wrong for so long, and until each kind of fault has happened.

        Afterwards all that was stopped runs again.
        """
        end = time.monotonic() + seconds
        struck: set[str] = set()
        kinds: deque[str] = deque()
        while time.monotonic() < end or set(self._weights) - struck:
            kinds.extend([] if kinds else self._round())
            self._wait(self._chance.uniform(*PAUSE_S))
            self._cut_connections()
            name = kinds.popleft()
            if self._strike(name):
                struck.add(name)
            elif name in self._weights and name not in kinds:
                kinds.append(name)  # it is not possible now
        time.sleep(ORPHANS_S)
        while self._later:
            heapq.heappop(self._later)[2]()
        for link in self._rig.links:
            link.take_traps_away()
        self.log += [
            Fault("cut a connection", cut.trap.sprung_at, 0)
            for cut in self.cuts
            if cut.trap.sprung_at is not None
        ]

    def _round(self) -> list[str]:
        """Each kind once, and half as many more by their weights, in any order."""
        kinds = list(self._weights)
        more = self._kinds.choices(kinds, list(self._weights.values()), k=len(kinds) // 2)
        return self._kinds.sample(kinds + more, len(kinds) + len(more))

    @property
    def counts(self) -> Counter[str]:
        return Counter(each.name for each in self.log)

    @property
    def cut_at(self) -> Counter[tuple[str, Place]]:
        """How often connections were cut at which statements and places."""
        return Counter(
            (cut.statement, cut.trap.at) for cut in self.cuts if cut.trap.sprung_at is not None
        )

    def _strike(self, name: str) -> bool:
        """Says whether it was possible."""
        self._struck, at = 0, time.monotonic()
        if not getattr(self, "_" + name.replace(" a ", "_").replace(" ", "_"))():
            return False
        # A fail-over begins with the server's end, not with what must be there before.
        at = self.fail_overs[-1][0] if name == "fail over" else at
        self.log.append(Fault(name, at, self._struck))
        return True

    def revive(self) -> None:
        """Starts a supervisor again wherever one is gone."""
        for supervisor in self._rig.supervisors:
            supervisor.start_again()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (now := time.monotonic()) < deadline:
            while self._later and self._later[0][0] <= now:
                heapq.heappop(self._later)[2]()
            for supervisor in self._rig.supervisors:
                if not supervisor.is_running and self._chance.random() < 0.05:
                    supervisor.start_again()
            time.sleep(0.02)

    def _in(self, seconds: float, what: Callable[[], object]) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._later, (due, next(self._numbers), what))

    def _cut_connections(self) -> None:
        own = [each.link for each in self._rig.supervisors]
        users = [link for link in self._rig.links if link not in own]
        for statement, place in itertools.islice(self._points, CUTS):
            link = self._chance.choice(own if statement in OF_SUPERVISORS else users)
            trap = link.trap(statement, at=place)
            trap.cut()
            self.cuts.append(Cut(statement, trap))

    def _any_supervisor(self) -> Supervisor:
        return self._chance.choice(self._rig.supervisors)

    def _is_one_away(self) -> bool:
        """One at a time: the others must be there to see it, and to do its work."""
        return bool(self._stopped) or any(link.stands_still for link in self._rig.links)

    def _away_s(self) -> float:
        return self._chance.uniform(*self._chance.choices(AWAY_S, (1, 1, 2))[0])

    # -- processes --------------------------------------------------------------------------------

    def _kill_worker(self) -> bool:
        return self._signal_one_of(self._any_supervisor().workers(), signal.SIGKILL)

    def _stop_worker(self) -> bool:
        """For good: to notice it is the supervisor's business."""
        return self._signal_one_of(self._any_supervisor().workers(), signal.SIGSTOP)

    def _kill_fork_server(self) -> bool:
        return self._signal_one_of(_listed(self._any_supervisor().fork_server()), signal.SIGKILL)

    def _stop_fork_server(self) -> bool:
        found = _listed(self._any_supervisor().fork_server())
        self._in(self._chance.uniform(0.5, 4.0), lambda: _signal(found, signal.SIGCONT))
        return self._signal_one_of(found, signal.SIGSTOP)

    def _signal_one_of(self, pids: list[int], number: signal.Signals) -> bool:
        return bool(pids) and _signal([self._chance.choice(pids)], number)

    def _kill_supervisor(self) -> bool:
        supervisor = self._any_supervisor()
        if not supervisor.is_running or supervisor.pid in self._stopped:
            return False
        tag, self._struck = supervisor.tag(), supervisor.pid
        supervisor.kill()
        self._in(ORPHANS_S, lambda: self._look_for_orphans(tag))
        return True

    def _look_for_orphans(self, tag: str) -> None:
        if tag and (left := linux.tagged_processes(tag)):
            self.problems.append(f"I16 no orphans: of {tag} are left {left}")

    def _stop_supervisor(self) -> bool:
        supervisor = self._any_supervisor()
        pid, process, began = supervisor.pid, supervisor.process, time.monotonic()
        if not supervisor.is_running or self._is_one_away():
            return False

        def go_on() -> None:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
            self._stopped.discard(pid)
            self.stopped.append(Stopped(pid, began, time.monotonic()))

        supervisor.signal(signal.SIGSTOP)
        self._struck = pid
        self._stopped.add(pid)
        self._in(self._away_s(), go_on)
        return True

    def _end_supervisor(self) -> bool:
        supervisor = self._any_supervisor()
        supervisor.signal(signal.SIGTERM)
        self._struck = supervisor.pid
        return supervisor.is_running

    # -- the network and the server ---------------------------------------------------------------

    def _reset_connections(self) -> bool:
        for link in self._rig.links:
            if self._chance.random() < 0.5:
                link.reset()
        return True

    def _hold_the_network(self) -> bool:
        link = self._chance.choice(self._rig.links)
        if self._is_one_away():
            return False
        link.stand_still()
        self._struck = next((each.pid for each in self._rig.supervisors if each.link is link), 0)
        self._in(self._away_s(), link.flow)
        return True

    def _crash_the_server(self) -> bool:
        return self._begin_anew("immediate")

    def _restart_the_server(self) -> bool:
        # PostgreSQL 18 can wait for ever when it is told to stop while it recovers from a crash.
        return self._rig.accepts_connections() and self._begin_anew("fast")

    def _begin_anew(self, mode: str) -> bool:
        self._rig.server.stop("immediate" if mode == "immediate" else "fast")
        time.sleep(self._chance.uniform(0.0, 2.0))
        self._rig.server.start()
        return True

    def _fail_over(self) -> bool:
        try:
            follow(self._rig.server, self._rig.standby)
        except NoStandbyError as error:
            self.notes.append(f"no fail-over: {error}")
            del self._weights["fail over"]
            return False
        began = time.monotonic()
        self._rig.fail_over()
        self.fail_overs.append((began, time.monotonic()))
        return True

    def _kill_backend(self) -> bool:
        return self._signal_one_of(self._rig.backends(), signal.SIGKILL)


def _points(chance: Random) -> Iterator[tuple[str, Place]]:
    """Chooses statements and places, without end: all of them, in any order, and again."""
    points = list(itertools.product((*OF_SUPERVISORS, *OF_USERS), PLACES))
    while True:
        chance.shuffle(points)
        yield from points


def _listed(pid: int | None) -> list[int]:
    return [] if pid is None else [pid]


def _signal(pids: list[int], number: signal.Signals) -> bool:
    sent = False
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            sent = True
    return sent
