"""`synk start MODULE:NAME`: where the module is looked for, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.small_app import APP, job_of, served, start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("app:clent", "did you mean app:client?"),
        ("app:hello", "is no synk.Client but of type FunctionWorker"),
        ("app:Hello.kind", "is no synk.Client but of type str"),
        ("ap:client", "there is no module ap in "),
        ("app.jobs:client", "there is no module app.jobs in "),
        ("broken:client", "cannot import broken: ModuleNotFoundError: No module named 'nowhere'"),
        ("leaving:client", "cannot import leaving: SystemExit: 3"),
        ("signal:client", "is another module than your "),
    ],
)
def test_a_wrong_target_is_one_line_that_says_what_is_meant(
    dsn: str, folder: Path, target: str, said: str
) -> None:
    (folder / "broken.py").write_text("import nowhere")
    (folder / "leaving.py").write_text("raise SystemExit(3)")
    (folder / "signal.py").write_text(APP)

    done = start(dsn, target, folder=folder)

    assert done.returncode != 0
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_missing_module_says_where_it_was_looked_for(dsn: str, folder: Path) -> None:
    done = start(dsn, "nope:client", folder=folder)

    assert str(folder) in done.stderr
    assert "--app-dir" in done.stderr


def test_the_app_may_be_in_another_folder_beside_files_named_as_the_standard_librarys(
    dsn: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job_id = job_of(dsn, folder)
    for name in ("queue", "signal", "logging", "types", "select"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not the one that is meant')")
    elsewhere = tmp_path_factory.mktemp("elsewhere")

    row = served(dsn, "app:client", "--app-dir", str(folder), folder=elsewhere, job_id=job_id)

    assert row.result == "hello"
    wrong = start(dsn, "app:client", "--app-dir", str(folder / "no"), folder=elsewhere)
    assert "is no folder" in wrong.stderr
