"""A job that says far too much."""

from __future__ import annotations

from dataclasses import dataclass

import synk


@dataclass
class Flood(synk.JobArgs, kind="flood"):
    pass


@synk.worker
def flood(job: synk.Job[Flood]) -> None:
    for number in range(20_000):
        print("x" * 500)
        job.progress(number, 20_000, "n" * 10_000)


FLOODS = [flood]
