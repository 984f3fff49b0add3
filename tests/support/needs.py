"""What some tests need of the machine: found, or the test is skipped, and says what is missing.

`.ci/run` installs all of it, and lets no test be skipped where it can.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

PLACE_15: Final = Path("/usr/lib/postgresql/15/bin")


def postgres15(program: str = "postgres") -> Path:
    """Returns a program of the machine's PostgreSQL 15."""
    if not (PLACE_15 / program).is_file():
        pytest.skip(f"no {program} of PostgreSQL 15 in {PLACE_15}")
    return PLACE_15 / program


def program(name: str) -> str:
    """Returns the path of a program."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} here")
    return found


def pid_namespace(*options: str) -> list[str]:
    """Returns what runs a command as the first process of a PID namespace of its own."""
    command = [program("unshare"), "--pid", "--fork", "--mount-proc", *options]
    done = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no PID namespaces here: {done.stderr.strip()}")
    return command


def run_in_psql(script: Path, dsn: str) -> subprocess.CompletedProcess[str]:
    """Feeds *script* to psql, which stops at the first error."""
    command = [postgres15("psql"), "--no-psqlrc", "--set", "ON_ERROR_STOP=on", "--file", script]
    return subprocess.run([*command, dsn], capture_output=True, text=True, check=False, timeout=60)
