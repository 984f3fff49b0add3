"""Programs whose handlers are in the program itself, in whatever form it is started."""

from __future__ import annotations

import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from support.small_app import APP, environment, job_of, served, start
from support.supervising import DEADLINE_S

MAIN = """
import threading, time
{app}
def watch(job_id):
    while not (row := client.get(job_id)).state.is_final:
        time.sleep(0.01)
    print(row.state.value, row.result or row.errors)
    client.shutdown()

if __name__ == "__main__":
    threading.Thread(target=watch, args=[client.insert("x", Hello())]).start()
    client.start()
"""
PROGRAM = MAIN.format(app=APP)
OUTSIDE = MAIN.format(app="from {package}.jobs import client, Hello")
NO_FILE = """
try:
    client.start()
except synk.ConfigurationError as error:
    print(error)
"""


def ran(dsn: str, folder: Path, *arguments: str, given: str | None = None) -> str:
    """Runs Python; returns what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment(dsn), input=given, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_handlers_in_a_packages_main_module_run(dsn: str, tmp_path: Path, method: str) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("WORD = 'hello'")
    program = PROGRAM.replace('"hello"\n', "WORD\n")
    program = program.replace("processes=1", f"processes=1, start_method={method!r}")
    (package / "__main__.py").write_text(f"from .words import WORD\n{program}")

    assert ran(dsn, tmp_path, "-m", "shop") == "completed hello\n"


def test_handlers_in_a_packages_other_modules_run_under_its_main_module(
    dsn: str, tmp_path: Path
) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "jobs.py").write_text(APP)
    (package / "__main__.py").write_text(OUTSIDE.replace("{package}", ""))

    assert ran(dsn, tmp_path, "-m", "shop") == "completed hello\n"


def test_handlers_in_a_module_that_is_run_by_its_name_run(dsn: str, tmp_path: Path) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "orders.py").write_text(PROGRAM)

    assert ran(dsn, tmp_path, "-m", "shop.orders") == "completed hello\n"


@pytest.mark.parametrize(("where", "method"), [("main", "forkserver"), ("module", "spawn")])
def test_handlers_in_a_zip_application_run(
    dsn: str, tmp_path: Path, where: str, method: str
) -> None:
    source = tmp_path / "source"
    (source / "shop").mkdir(parents=True)
    program = PROGRAM.replace("processes=1", f"processes=1, start_method={method!r}")
    if where == "module":
        app = APP.replace("processes=1", f"processes=1, start_method={method!r}")
        (source / "shop" / "jobs.py").write_text(app)
        program = OUTSIDE.replace("{package}", "shop")
    (source / "__main__.py").write_text(program)
    zipapp.create_archive(source, tmp_path / "shop.pyz")

    assert ran(dsn, tmp_path, "shop.pyz") == "completed hello\n"


def test_handlers_in_a_folder_that_is_run_run(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__main__.py").write_text(PROGRAM)

    assert ran(dsn, tmp_path, "shop") == "completed hello\n"


@pytest.mark.parametrize("way", ["-c", "stdin", "prompt"])
def test_a_program_without_a_file_is_refused_by_a_line_that_says_so(
    dsn: str, tmp_path: Path, way: str
) -> None:
    if way == "-c":
        said = ran(dsn, tmp_path, "-c", APP + NO_FILE)
    elif way == "stdin":
        said = ran(dsn, tmp_path, "-", given=APP + NO_FILE)
    else:
        given = f"exec({APP!r})\nexec({NO_FILE!r})\n"
        said = ran(dsn, tmp_path, "-i", "-q", given=given)

    assert "live in a program without a file (python -c, a notebook, a prompt)" in said
    assert "put them into a module" in said


def test_a_program_without_a_file_may_run_handlers_of_a_module(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APP)
    program = OUTSIDE.replace("{package}.jobs", "shop")

    assert ran(dsn, tmp_path, "-c", program) == "completed hello\n"


def test_an_app_that_is_called_synk_is_refused_by_a_line_that_names_it(
    dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "synk.py").write_text(APP)

    done = start(dsn, "synk:client", folder=tmp_path)

    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "synk.py") in line
    assert "rename" in line


NEIGHBOURS = ("queue", "signal", "types", "random", "logging", "select", "json", "synk")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_files_beside_the_app_that_are_named_as_what_synk_needs_are_no_matter(
    dsn: str, tmp_path: Path, method: str
) -> None:
    app = APP.replace("processes=1", f"processes=1, start_method={method!r}")
    (tmp_path / "app.py").write_text(app)
    job_id = job_of(dsn, tmp_path)
    for name in NEIGHBOURS:
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not the one that is meant')")

    assert served(dsn, "app:client", folder=tmp_path, job_id=job_id).result == "hello"


def test_a_file_beside_the_app_that_is_named_as_a_package_that_synk_needs_is_named(
    dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "psycopg.py").write_text("raise RuntimeError('not the one that is meant')")

    done = start(dsn, "app:client", folder=tmp_path)

    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert str(tmp_path / "psycopg.py") in line
