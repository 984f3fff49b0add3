"""Facts about what a supervisor does, as frozen records, and who listens to them.

Business code emits; logging, the demo's view, tests and whoever counts subscribe, by
``client.telemetry.subscribe(function)``. A subscriber must be quick: it is called in the thread
that emits. Each fact is one line for an operator, knows its level, and has what a machine wants to
find as `fields`, which are attributes of its LogRecord.
"""

from __future__ import annotations

from synk.telemetry.fact import Fact as Fact
from synk.telemetry.jobs import AttemptFailed as AttemptFailed
from synk.telemetry.jobs import AttemptGaveUp as AttemptGaveUp
from synk.telemetry.jobs import AttemptInterrupted as AttemptInterrupted
from synk.telemetry.jobs import AttemptSnoozed as AttemptSnoozed
from synk.telemetry.jobs import AttemptSucceeded as AttemptSucceeded
from synk.telemetry.jobs import JobsCleaned as JobsCleaned
from synk.telemetry.jobs import JobsExpired as JobsExpired
from synk.telemetry.jobs import JobsGivenBack as JobsGivenBack
from synk.telemetry.jobs import JobsReconciled as JobsReconciled
from synk.telemetry.jobs import JobsRescued as JobsRescued
from synk.telemetry.jobs import OutcomeReduced as OutcomeReduced
from synk.telemetry.jobs import OutcomeRefused as OutcomeRefused
from synk.telemetry.jobs import OutcomesUnstored as OutcomesUnstored
from synk.telemetry.jobs import headline as headline
from synk.telemetry.log import log_to as log_to
from synk.telemetry.periodic import ScheduleDeclared as ScheduleDeclared
from synk.telemetry.periodic import ScheduleFailing as ScheduleFailing
from synk.telemetry.periodic import TicksSkipped as TicksSkipped
from synk.telemetry.periodic import TicksTaken as TicksTaken
from synk.telemetry.subscribers import Telemetry as Telemetry
from synk.telemetry.supervisors import DrainTooLong as DrainTooLong
from synk.telemetry.supervisors import LeaseRanOut as LeaseRanOut
from synk.telemetry.supervisors import LeaseRegained as LeaseRegained
from synk.telemetry.supervisors import LeaseRevoked as LeaseRevoked
from synk.telemetry.supervisors import LoopResumed as LoopResumed
from synk.telemetry.supervisors import LoopStalled as LoopStalled
from synk.telemetry.supervisors import QueuePaused as QueuePaused
from synk.telemetry.supervisors import QueueResized as QueueResized
from synk.telemetry.supervisors import QueueResumed as QueueResumed
from synk.telemetry.supervisors import StorageClockStepped as StorageClockStepped
from synk.telemetry.supervisors import StorageDoubted as StorageDoubted
from synk.telemetry.supervisors import StorageFailing as StorageFailing
from synk.telemetry.supervisors import StorageRecovered as StorageRecovered
from synk.telemetry.supervisors import SupervisorDeclaredDead as SupervisorDeclaredDead
from synk.telemetry.supervisors import SupervisorDraining as SupervisorDraining
from synk.telemetry.supervisors import SupervisorFlushing as SupervisorFlushing
from synk.telemetry.supervisors import SupervisorStarted as SupervisorStarted
from synk.telemetry.supervisors import SupervisorStopped as SupervisorStopped
from synk.telemetry.supervisors import UnknownKindWaits as UnknownKindWaits
from synk.telemetry.supervisors import WorkerNotReady as WorkerNotReady
from synk.telemetry.supervisors import WorkersDoubted as WorkersDoubted
