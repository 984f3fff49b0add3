"""What the workers do at one moment, and what their jobs have noted.

All in the engine's loop, where the processes and the pool may be touched; it only reads memory and
/proc.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from synk.claim import Fence
from synk.row import Progress
from synk.runtime.ipc import linux
from synk.status import JobProgress, SlotStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from synk.claim import ClaimedJob
    from synk.core.pool import Pool
    from synk.core.slot import Slot
    from synk.runtime.supervisor.worker_process import WorkerProcess


class Watch:
    """Looks at the workers; all in the engine's loop."""

    def __init__(self) -> None:
        self._cpu: dict[int, tuple[float, float]] = {}
        """Of each process at the last look: when it was, and the CPU seconds used until then."""
        self._noted: dict[Fence, tuple[str | None, str | None]] = {}

    def look(
        self, processes: Mapping[int, WorkerProcess], pool: Pool
    ) -> tuple[list[SlotStatus], list[JobProgress]]:
        """Returns what the workers do, and what their jobs have noted since the last call."""
        slots: list[SlotStatus] = []
        found: list[JobProgress] = []
        cpu: dict[int, tuple[float, float]] = {}
        noted: dict[Fence, tuple[str | None, str | None]] = {}
        for slot in pool.slots:
            status = slot_status(slot, time.monotonic())
            process = processes.get(slot.number)
            if process is not None and process.pid:
                job, progress, checkpoint = progress_of(slot, process)
                status = self._with_usage(status, process.pid, cpu)
                if job is not None:
                    status = dataclasses.replace(status, progress=Progress.from_json(progress))
                    fence = Fence(job.id, job.attempt, job.claim_seq)
                    noted[fence] = (progress, checkpoint)
                    found += self._news(fence, progress, checkpoint)
            slots.append(status)
        self._cpu, self._noted = cpu, noted
        return slots, found

    def _with_usage(
        self, status: SlotStatus, pid: int, cpu: dict[int, tuple[float, float]]
    ) -> SlotStatus:
        now, used_s = cpu[pid] = time.monotonic(), linux.cpu_seconds(pid)
        before = self._cpu.get(pid)
        share = None
        if before is not None and now > before[0]:
            share = round(max(0.0, used_s - before[1]) / (now - before[0]), 3)
        return dataclasses.replace(
            status, pid=pid, cpu_share=share, rss_bytes=linux.resident_bytes(pid)
        )

    def _news(
        self, fence: Fence, progress: str | None, checkpoint: str | None
    ) -> list[JobProgress]:
        before = self._noted.get(fence, (None, None))
        if (progress, checkpoint) == before:
            return []
        changed = checkpoint if checkpoint != before[1] else None
        return [JobProgress(fence, progress, changed)]


def slot_status(slot: Slot, now: float) -> SlotStatus:
    """Returns what the pool knows of a slot, at the time *now*."""
    held = next(iter(tuple(slot.in_flight)), None)
    if held is None:
        return SlotStatus(slot=slot.number, pid=slot.pid)
    job = held.job
    weight = (slot.limits.weights or {}).get(job.kind)
    since = slot.started_s if slot.running else slot.progress_at
    return SlotStatus(
        slot=slot.number,
        pid=slot.pid,
        job_id=job.id,
        attempt=job.attempt,
        kind=job.kind,
        name=job.name,
        queue=job.queue,
        seconds=max(0.0, now - since),
        cores=weight and weight.cores,
        memory=(weight and weight.memory) or None,
    )


def progress_of(
    slot: Slot, process: WorkerProcess
) -> tuple[ClaimedJob | None, str | None, str | None]:
    """Returns the job that runs, which may be ahead of what the pool knows, and its progress."""
    number, progress, checkpoint = process.progress()
    job = slot.job_of(number)
    return (None, None, None) if job is None else (job, progress, checkpoint)
