"""X11 to X13: what a supervisor leaves where others could get at it, and how much it takes."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

import synk
from support.jobs import handlers
from support.jobs.flooding import FLOODS, Flood
from support.supervising import SupervisorProcess, ended, make_client, supervised
from synk import JobState
from synk.errors import ConfigurationError
from synk.storage.embedded_host import make_private, this_user

LISTENS = "00010000"
"""A flag of sockets in /proc/net/unix."""


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with make_client(dsn) as client:
        yield client


def sockets_of(pids: list[int]) -> set[str]:
    """The inodes of all sockets that processes have open."""
    inodes: set[str] = set()
    for pid in pids:
        for link in Path("/proc").glob(f"{pid}/fd/*"):
            # It may be closed by now.
            with suppress(OSError):
                target = str(link.readlink())
                if target.startswith("socket:["):
                    inodes.add(target[8:-1])
    return inodes


def listening() -> set[str]:
    """The inodes of all sockets of this machine that listen, or that others can send to."""
    found: set[str] = set()
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        words = line.split()
        has_a_name = len(words) > 7
        if words[3] == LISTENS or has_a_name:
            found.add(words[6])
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                found.add(words[9])
    return found


def test_x12_x13_nothing_listens_and_no_file_is_made(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    environment = {name: str(folder) for name in ("TMPDIR", "TEMP", "TMP", "HOME")}
    with SupervisorProcess(dsn, environment=environment) as process:
        for args in (handlers.Typed(2), handlers.Misbehave("segv"), handlers.Noop()):
            ended(client, client.insert("x", args, synk.InsertOptions(max_retries=0)))
        pids = [process.process.pid, *process.processes()]
        sockets = sockets_of(pids)
        left = sorted(folder.rglob("*"))

    assert len(pids) >= 4
    assert sockets
    assert sockets & listening() == set()
    assert left == []


def test_x12_the_look_for_listeners_finds_them(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as named, socket.create_server(("127.0.0.1", 0)) as tcp:
        named.bind(str(tmp_path / "s"))
        named.listen()
        found = sockets_of([os.getpid()]) & listening()
        inodes = {str(os.fstat(each.fileno()).st_ino) for each in (named, tcp)}

    assert inodes <= found


def test_x13_a_folder_that_somebody_else_made_first_is_not_used() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of another user")
    place = Path(tempfile.mkdtemp(prefix="synk-squat-"))
    try:
        squatted, linked = place / "squatted", place / "linked"
        squatted.mkdir()
        os.chown(squatted, pwd.getpwnam("nobody").pw_uid, 0)
        linked.symlink_to("/etc")

        with pytest.raises(ConfigurationError, match="belongs to the user id"):
            make_private(squatted, this_user())
        with pytest.raises(OSError, match="linked"):
            make_private(linked, this_user())
    finally:
        shutil.rmtree(place)


def test_x13_an_embedded_servers_socket_is_its_users_alone(dsn: str) -> None:
    parts = conninfo_to_dict(dsn)
    folder = Path(str(parts.get("host", "")))
    if not folder.is_absolute():
        pytest.skip("the server of this run is not reached by a socket")

    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / f".s.PGSQL.{parts.get('port', 5432)}").stat().st_mode & 0o077 == 0


def test_x11_twelve_thousand_jobs_of_one_call_are_stored_in_their_order(
    client: synk.Client,
) -> None:
    ids = client.insert_many([(str(n), handlers.Noop(n)) for n in range(12_000)])

    assert ids == list(range(ids[0], ids[0] + 12_000))
    rows = client.storage.get([ids[0], ids[-1]])
    assert [row.args for row in rows] == [{"n": 0}, {"n": 11_999}]


def test_x11_a_row_that_would_unfold_into_gigabytes_is_refused_by_the_table(
    connection: psycopg.Connection,
) -> None:
    # A hundred times smaller on disk: the table counts what it unfolds into.
    with pytest.raises(psycopg.errors.CheckViolation, match="args_size"):
        connection.execute(
            "INSERT INTO synk.job (kind, name, args)"
            " VALUES ('k', 'x', jsonb_build_object('a', repeat('a', 20000000)))"
        )


def test_x11_a_flood_of_output_and_notes_leaves_a_small_row(dsn: str) -> None:
    with supervised(dsn, processes=1, workers=[*handlers.WORKERS, *FLOODS]) as client:
        row = ended(client, client.insert("x", Flood()))

    assert row.state is JobState.COMPLETED
    assert len(row.output) <= 16 * 1024
    assert row.progress is not None
    assert len(row.progress.note) <= 200
