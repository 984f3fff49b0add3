"""Facts about what a supervisor does, as frozen records, and who listens to them.

Business code emits; logging, the demo's view, tests and whoever counts subscribe, by
``client.telemetry.subscribe(function)``. A subscriber must be quick: it is called in the thread
that emits. Each fact is one line for an operator, knows its level, and has what a machine wants to
find as `fields`, which are attributes of its LogRecord.
"""

from __future__ import annotations

from synk.telemetry.fact import Fact
from synk.telemetry.jobs import (
    AttemptFailed,
    AttemptInterrupted,
    AttemptSucceeded,
    JobsCleaned,
    JobsGivenBack,
    JobsReconciled,
    JobsRescued,
    OutcomeReduced,
    OutcomeRefused,
    OutcomesUnstored,
    headline,
)
from synk.telemetry.log import log_to
from synk.telemetry.subscribers import Telemetry
from synk.telemetry.supervisors import (
    DrainTooLong,
    LeaseRanOut,
    LeaseRegained,
    LeaseRevoked,
    LoopResumed,
    LoopStalled,
    StorageClockStepped,
    StorageDoubted,
    StorageFailing,
    StorageRecovered,
    SupervisorDeclaredDead,
    SupervisorDraining,
    SupervisorFlushing,
    SupervisorStarted,
    SupervisorStopped,
    UnknownKindWaits,
    WorkerNotReady,
    WorkersDoubted,
)

__all__ = [
    "AttemptFailed",
    "AttemptInterrupted",
    "AttemptSucceeded",
    "DrainTooLong",
    "Fact",
    "JobsCleaned",
    "JobsGivenBack",
    "JobsReconciled",
    "JobsRescued",
    "LeaseRanOut",
    "LeaseRegained",
    "LeaseRevoked",
    "LoopResumed",
    "LoopStalled",
    "OutcomeReduced",
    "OutcomeRefused",
    "OutcomesUnstored",
    "StorageClockStepped",
    "StorageDoubted",
    "StorageFailing",
    "StorageRecovered",
    "SupervisorDeclaredDead",
    "SupervisorDraining",
    "SupervisorFlushing",
    "SupervisorStarted",
    "SupervisorStopped",
    "Telemetry",
    "UnknownKindWaits",
    "WorkerNotReady",
    "WorkersDoubted",
    "headline",
    "log_to",
]
