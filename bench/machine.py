"""The machine that is measured on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Final

import psutil

CPUS: Final = len(os.sched_getaffinity(0))


def machine() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "cpus": CPUS,
        "cpu": cpu_model(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 1),
        "synk": metadata.version("synk"),
        "psycopg": metadata.version("psycopg"),
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
