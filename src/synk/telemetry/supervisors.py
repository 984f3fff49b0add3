"""Facts about a supervisor: its start and end, its lease, its storage, its loops."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from synk.status import printable
from synk.telemetry.fact import Fact

if TYPE_CHECKING:
    from synk.status import UnknownKind


class SupervisorStarted(Fact):
    """The supervisor begins to claim.

    Attributes:
        client_id: the id of its client.
        processes: how many worker processes it has.
        queues: the names of the queues that it serves.
        database: where the jobs are, without a password.
    """

    client_id: str
    processes: int
    queues: tuple[str, ...]
    database: str

    def __str__(self) -> str:
        queues = ", ".join(self.queues)
        return (
            f"synk {self.client_id} started: {self.processes} worker processes, queues {queues}, "
            f"{self.database}"
        )


class DrainTooLong(Fact, level=logging.WARNING):
    """The platform, by all that is known of it, kills this process before a drain is over.

    Attributes:
        drain_s: the seconds that running jobs get to finish.
        platform: what it is: Kubernetes, systemd, ...
        setting: what the platform calls the time that it gives.
        grace_s: that time in seconds: its default, or what the environment *variable* says.
        variable: the name of the environment variable by which that time is told.
        last_s: the seconds that an end takes besides the drain.
    """

    drain_s: float
    platform: str
    setting: str
    grace_s: float
    variable: str
    last_s: float

    def __str__(self) -> str:
        needed_s = self.drain_s + self.last_s
        return (
            f"drain_timeout is {self.drain_s:g} s, but {self.platform} kills this process after "
            f"{self.grace_s:g} s: raise {self.setting} to {needed_s:g} and say so by "
            f"{self.variable}={needed_s:g}, or set drain_timeout to "
            f"{max(0.0, self.grace_s - self.last_s):g} s at most"
        )


class WorkersDoubted(Fact, level=logging.WARNING):
    """How the worker processes begin may do harm.

    Attributes:
        what: what may be wrong, as a sentence.
    """

    line = "{what}"
    what: str


class WorkerNotReady(Fact, level=logging.ERROR):
    """A worker process ended, or was killed, before it was ready for jobs; another one is tried.

    Attributes:
        what: how it ended and where it was, as a sentence or two.
    """

    line = "{what}"
    what: str


class SupervisorDraining(Fact):
    """It was told to stop; running jobs have *seconds* left.

    Attributes:
        seconds: how long running jobs have, at the most.
    """

    line = "draining: claims no more; running jobs have {seconds:.0f} s to finish"
    seconds: float


class QueuePaused(Fact):
    """Nothing of a queue begins here from now on; what runs goes on.

    Attributes:
        queue: its name.
        by: who has paused it; empty: it is not known.
    """

    queue: str
    by: str

    def __str__(self) -> str:
        by = f" by {printable(self.by)}" if self.by else ""
        return f"queue {self.queue} is paused{by}: nothing of it begins, what runs goes on"


class QueueResumed(Fact):
    """Jobs of a queue that was paused begin here again.

    Attributes:
        queue: its name.
    """

    line = "queue {queue} is resumed"
    queue: str


class QueueResized(Fact):
    """Other numbers of jobs of a queue may run at once here than before.

    Attributes:
        queue: its name.
        max_workers: how many, from now on.
    """

    line = "queue {queue} runs up to {max_workers} jobs at once"
    queue: str
    max_workers: int


class SupervisorFlushing(Fact):
    """All of its processes have ended; *count* outcomes wait to be stored.

    Attributes:
        count: how many.
    """

    line = "all workers have ended; {count} outcomes are still to be stored"
    count: int


class SupervisorStopped(Fact):
    """It has stopped; *unacknowledged* outcomes could not be stored.

    Attributes:
        unacknowledged: how many.
    """

    line = "stopped"
    unacknowledged: int


class LeaseRanOut(Fact, level=logging.ERROR):
    """The lease could not be renewed in time: no job runs until it is."""

    line = (
        "the lease could not be renewed in time: running jobs are killed, and nothing is "
        "claimed until the database answers again"
    )


class LeaseRegained(Fact):
    """The lease is renewed after all; the supervisor goes on."""

    line = "the lease is renewed: claiming again"


class LeaseRevoked(Fact, level=logging.ERROR):
    """The lease can never be renewed again: the supervisor begins anew under another id.

    Attributes:
        reason: why.
    """

    line = "the lease is lost: {reason}; beginning anew"
    reason: str


class SupervisorDeclaredDead(Fact, level=logging.WARNING):
    """Another supervisor did not renew its lease, and was declared dead.

    Attributes:
        owner: the id of its client.
    """

    line = "supervisor {owner} is declared dead: its lease ran out"
    owner: str


class UnknownKindWaits(Fact, level=logging.WARNING):
    """Jobs wait in a queue whose supervisors have no worker for their kind; told once a kind.

    Attributes:
        unknown: the kind, its queue, and which jobs wait.
    """

    line = (
        "{unknown}; add its worker to the client that serves the queue (workers=[...]) "
        "and start that anew, or cancel them"
    )
    unknown: UnknownKind

    @property
    def fields(self) -> dict[str, object]:
        """The kind, its queue, and the first of the jobs."""
        unknown = self.unknown
        return {"kind": unknown.kind, "queue": unknown.queue, "job_id": unknown.job_id}


class StorageClockStepped(Fact, level=logging.WARNING):
    """The storage's clock was set, by so many seconds, as far as this machine's can tell.

    Attributes:
        seconds: by how much; below zero: back.
    """

    line = "the storage's clock was set by {seconds:+.1f} s"
    seconds: float


class StorageDoubted(Fact, level=logging.WARNING):
    """The storage answers at the start, and may fail all the same.

    Attributes:
        what: what may be wrong, and what to do, as a sentence.
    """

    line = "{what}"
    what: str


class StorageFailing(Fact, level=logging.ERROR):
    """The storage cannot be used by one of the supervisor's loops; told once when it begins.

    Attributes:
        loop: which one: ``claim``, ``ack``, ...
        problem: what the storage says, and what to do.
    """

    line = "{loop}: {problem}; trying again"
    loop: str
    problem: str


class StorageRecovered(Fact):
    """It can again, after *seconds*.

    Attributes:
        loop: which one.
        seconds: how long it could not.
    """

    line = "{loop}: the storage is back after {seconds:.1f} s"
    loop: str
    seconds: float


class LoopStalled(Fact, level=logging.ERROR):
    """The supervisor's loop has not turned for *seconds*: what is over its time is killed late.

    Attributes:
        seconds: how long it has not.
        place: where in the code it is.
    """

    line = (
        "the supervisor's loop has stood still for {seconds:.1f} s in {place}: jobs "
        "over their time are killed late. Make telemetry subscribers quick, or give this "
        "process more CPU"
    )
    seconds: float
    place: str


class LoopResumed(Fact, level=logging.WARNING):
    """It turns again, after *seconds*.

    Attributes:
        seconds: how long it had not.
    """

    line = "the supervisor's loop turns again after {seconds:.1f} s"
    seconds: float
