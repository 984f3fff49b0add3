"""What jobs leave in /dev/shm, and to be done at the end: nothing stays, as under plain Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.acting import acting, error_of, noted, run
from support.supervising import left_in_shared_memory, wait_until
from synk import Cause, JobState


def names() -> set[str]:
    folders = {file.name for file in Path("/dev/shm").glob("joblib_memmapping_folder*")}  # noqa: S108 - a look
    return folders | {name for name in left_in_shared_memory() if name.startswith(("sem.", "loky"))}


USES = ["use_semaphores", "use_joblib"]


@pytest.fixture(params=USES)
def do(request: pytest.FixtureRequest) -> str:
    return request.param


def test_nothing_of_a_completed_job_stays_in_shared_memory(dsn: str, do: str) -> None:
    before = names()

    with acting(dsn, processes=1) as client:
        assert run(client, do).state is JobState.COMPLETED

    assert names() <= before


def test_nothing_of_a_killed_job_stays_in_shared_memory(dsn: str, do: str, tmp_path: Path) -> None:
    before = names()

    with acting(dsn, processes=1) as client:
        row = run(client, do, log=tmp_path / "log", path=tmp_path / "never", timeout_s=4.0)

        assert len(noted(tmp_path / "log", "semaphores" if "sem" in do else "total")) == 2
        assert error_of(row).cause is Cause.TIMEOUT
        # At once: the attempt is over only when this is true.
        assert names() <= before


@pytest.mark.parametrize("options", [{"max_jobs": 1}, {}])
def test_exit_functions_of_a_worker_that_ends_in_peace_run(
    dsn: str, tmp_path: Path, options: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"

    with acting(dsn, processes=1, **options) as client:
        assert run(client, "leave_exit_function", log=log).state is JobState.COMPLETED
        if options:
            wait_until(lambda: log.read_text().count("exit function") == 1)

    assert log.read_text().count("exit function") == 1
    assert "printed at the exit" in capfd.readouterr().err
