"""Signals to a supervisor at any moment of its life, once and repeatedly."""

from __future__ import annotations

import signal
from pathlib import Path

from starting import APP, StartedApp
from supervising import wait_until

TERM, INT = signal.SIGTERM, signal.SIGINT


def test_s12_a_signal_while_modules_are_imported_ends_the_start(dsn: str, tmp_path: Path) -> None:
    imported = tmp_path / "imported"
    (tmp_path / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(imported)!r}).touch()\ntime.sleep(1000)\n"
    )
    app = APP.replace("processes=1", "processes=1, preload=['slow']")
    with StartedApp(tmp_path, dsn, app=app) as started:
        wait_until(imported.exists, what="the import to begin")

        started.signal(TERM)

        assert started.wait(3) == 0, started.log
        assert started.processes() == []
