"""The command line, as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.supervising import TESTS

ENV = {name: value for name, value in os.environ.items() if not name.startswith("SYNK_")}
ENV["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
"""What a user has who has set nothing."""


def run(*arguments: str, dsn: str | None = None, cwd: Path | None = None):
    env = ENV if dsn is None else {**ENV, "SYNK_DATABASE_URL": dsn}
    return subprocess.run(
        [sys.executable, "-m", "synk", *arguments],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
