"""Each project has a database of its own on the embedded server."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from support.servers import Server
from support.supervising import program_env
from synk.storage.embedded import server_for
from synk.storage.postgres import PostgresStorage
from synk.storage.project import connected_to, database_of

FIRST_JOB = """
import synk
from support.jobs import handlers
with synk.Client(storage=synk.PostgresStorage("embedded")) as client:
    client.storage.migrate()
    print(client.insert("x", handlers.Noop()), client.storage.describe())
"""
ENV = program_env(PYTHONUNBUFFERED="1")


@pytest.fixture
def projects() -> Iterator[list[Path]]:
    """Two folders of one name, with a name that is hard to quote."""
    folders = [Path(tempfile.mkdtemp()) / 'The "App"; é' for _ in range(2)]
    for folder in folders:
        folder.mkdir()
    yield folders
    server = server_for("embedded")
    with psycopg.connect(server.start(), autocommit=True) as connection:
        for folder in folders:
            name = database_of(str(folder))
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
    server.release()


def test_the_first_job_of_each_project_is_job_1(projects: list[Path]) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", FIRST_JOB],
            cwd=folder, env=ENV, capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for folder in projects
    ]  # fmt: skip

    for line, folder in zip(said, projects, strict=True):
        assert line.startswith(f"1 database {database_of(str(folder))} of the embedded server in /")


def test_psql_is_told_what_to_connect_to(projects: list[Path]) -> None:
    command = [sys.executable, "-m", "synk", "dsn", "--storage", "embedded", "--serve"]
    process = subprocess.Popen(
        command, cwd=projects[0], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        dsn = process.stdout.readline().strip()
        with psycopg.connect(dsn) as connection:
            found = connection.execute("SELECT current_database()").fetchone()
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)

    assert found == (database_of(str(projects[0])),)
    assert process.returncode == 0
    assert "/postgres-" in errors


def test_a_storage_stays_with_the_folder_that_it_was_made_in(
    projects: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(projects[0])
    storage = PostgresStorage("embedded")
    monkeypatch.chdir(projects[1])

    made = conninfo_to_dict(storage.conninfo())["dbname"]
    storage.close()

    assert made == database_of(str(projects[0]))


def test_a_name_says_the_folder_and_fits() -> None:
    name = database_of("/srv/" + "Long Name-" * 30)

    assert name.startswith("long_name_long_name")
    assert len(name) < 63
    assert database_of("/").startswith("root_")
    assert database_of("/a/app") != database_of("/b/app")
    assert database_of(None) == "postgres"


def test_a_database_that_is_there_is_used_again(server: Server) -> None:
    with server.database(migrated=False) as dsn:
        name = str(conninfo_to_dict(dsn)["dbname"])

        again = conninfo_to_dict(connected_to(dsn, name, Path("/srv")))

    assert again == conninfo_to_dict(dsn)
