"""What the guides show runs, and does what they say."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import synk
from support.supervising import ended, supervised, wait_until
from synk import CancelReason, JobRow, JobState

DOCS = Path(synk.__file__).parent / "docs"
GUIDES = sorted(DOCS.glob("*.md"))


def program_of(guide: Path, dsn: str) -> str:
    """The Python of a guide, from its first line to its last, on another database."""
    blocks = re.findall(r"```python\n(.*?)```", guide.read_text(), re.DOTALL)
    return "\n\n".join(blocks).replace('"embedded"', repr(dsn))


@pytest.fixture
def handlers_guide(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """The guide as a module that worker processes import."""
    name = "guide_to_handlers"
    (tmp_path / f"{name}.py").write_text(program_of(DOCS / "handlers.md", dsn))
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module(name)
    del sys.modules[name]


@pytest.mark.parametrize("guide", GUIDES, ids=[guide.stem for guide in GUIDES])
def test_the_python_of_a_guide_runs_from_top_to_bottom(
    guide: Path, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(program_of(guide, dsn))

    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_the_handlers_of_the_guide_choose_as_it_says(dsn: str, handlers_guide: ModuleType) -> None:
    guide = handlers_guide
    queues = {"default": synk.QueueConfig(), "bills": synk.QueueConfig()}
    with supervised(dsn, workers=[guide.bill, guide.remind], queues=queues) as client:

        def scheduled(args: object) -> JobRow:
            job_id = client.insert("x", args)
            return wait_until(
                lambda: (row := client.get(job_id)) and row.state is JobState.SCHEDULED and row
            )

        given_up = ended(client, client.insert("x", guide.Bill("")))
        sent = ended(client, client.insert("x", guide.Bill("Ada")))
        snoozed = scheduled(guide.Bill("Ada", is_ready=False))
        busy = scheduled(guide.Bill("busy"))
        reminded = scheduled(guide.Reminder("Ada"))

    assert given_up.cancel_reason is CancelReason.HANDLER
    assert given_up.errors[0].error.endswith("no such customer")
    assert sent.result == "sent to Ada"
    assert (snoozed.snoozes, snoozed.uncounted, snoozed.errors) == (1, 1, [])
    assert "TooManyRequests" in busy.errors[0].trace
    for row, seconds in ((snoozed, 300), (busy, 3600), (reminded, 30)):
        assert row.attempted_at is not None
        assert abs((row.scheduled_at - row.attempted_at).total_seconds() - seconds) < 20
