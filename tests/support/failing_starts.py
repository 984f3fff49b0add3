"""Supervisors that are to fail at their start, and why they do."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import synk
from support.supervising import DEADLINE_S
from synk import JobState


def module_of(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that this process and all that it starts can import."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(folder))
    return name


def problem_at_start(client: synk.Client) -> BaseException:
    """Runs the client, which is to fail; returns how it did."""
    problems: list[BaseException] = []

    def start() -> None:
        try:
            client.start()
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join(DEADLINE_S)
    if thread.is_alive():
        client.shutdown()
        thread.join()
    return problems[0]


def never_tried(client: synk.Client, job_id: int) -> bool:
    row = client.get(job_id)
    return row is not None and (row.state, row.attempt) == (JobState.AVAILABLE, 0)
