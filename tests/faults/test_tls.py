"""TLS to the database: whom a client trusts, and by what name."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import synk
from support import needs
from support.jobs import handlers
from support.networked import PASSWORD, NetworkedServer, networked_server
from support.servers import new_folder
from support.supervising import SupervisorProcess, ended, make_client
from synk import JobState
from synk.storage.embedded_host import server_user
from synk.testing.making import raised

NAME = "db.synk.test"
HBA = "hostssl all all 127.0.0.1/32 scram-sha-256"
CONFIG = f"""
[req]
distinguished_name = dn
[dn]
[server]
subjectAltName = DNS:{NAME}
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = keyCertSign
"""


def openssl(folder: Path, *arguments: str) -> None:
    command = ["openssl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_certificates(folder: Path) -> None:
    """Makes an authority, its certificate of the server, and the authority of somebody else."""
    (folder / "config").write_text(CONFIG)
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "config")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}")
        openssl(folder, "req", "-x509", *key, "-extensions", "ca", "-days", "2", *files)
    files = ("-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={NAME}")
    openssl(folder, "req", *key, *files)
    sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
    extensions = ("-extfile", "config", "-extensions", "server")
    openssl(folder, "x509", "-req", "-in", "server.csr", *sign, *extensions, "-out", "server.crt")


@pytest.fixture(scope="module")
def server() -> Iterator[NetworkedServer]:
    """A server that speaks TLS alone."""
    needs.program("openssl")
    folder = new_folder("synk-tls-")
    try:
        make_certificates(folder)
        shutil.chown(folder / "server.key", server_user().uid)
        (folder / "server.key").chmod(0o600)
        files = {f"ssl_{kind}_file": str(folder / f"server.{end}") for kind, end in ENDS.items()}
        settings = {"ssl": "on", **files}
        with networked_server(folder, listen="127.0.0.1", hba=HBA, settings=settings) as server:
            yield server
    finally:
        shutil.rmtree(folder)


ENDS = {"key": "key", "cert": "crt"}


def safe(server: NetworkedServer, **changed: str) -> str:
    """The way in by the server's name, with its authority."""
    root = str(server.folder / "ca.crt")
    given = {"hostaddr": "127.0.0.1", "sslmode": "verify-full", "sslrootcert": root}
    return server.dsn(changed.pop("host", NAME), **{**given, **changed})


def test_a_supervisor_runs_jobs_over_verified_tls(server: NetworkedServer) -> None:
    dsn = safe(server)
    with SupervisorProcess(dsn) as process, make_client(dsn) as client:
        row = ended(client, client.insert("x", handlers.Typed(2)))
        with psycopg.connect(server.local) as connection:
            spoken = connection.execute(
                "SELECT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
                " WHERE usename = 'app' AND backend_type = 'client backend'"
            ).fetchall()
        tag = process.tag

    assert (row.state, row.attempted_by) == (JobState.COMPLETED, [tag])
    # The heartbeat, the listener, the pools: none of them without.
    assert len(spoken) >= 4
    assert {ssl for ssl, _ in spoken} == {True}


WRONG = {
    "another name": {"host": "other.synk.test"},
    "its address for a name": {"host": "127.0.0.1"},
    "another authority": {"sslrootcert": "other.crt"},
    "no authority": {"sslrootcert": "missing.crt"},
    "no TLS": {"sslmode": "disable"},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_server_that_is_not_who_it_should_be_is_told_and_gets_no_password(
    server: NetworkedServer, name: str
) -> None:
    changed = dict(WRONG[name])
    if "sslrootcert" in changed:
        changed["sslrootcert"] = str(server.folder / changed["sslrootcert"])
    storage = synk.PostgresStorage(safe(server, **changed))

    error = raised(storage.ping)

    assert isinstance(error, synk.StorageUnavailable)
    assert any(word in str(error) for word in ("certificate", "no encryption")), error
    assert PASSWORD not in f"{error} {error!r} {storage!r}"
    storage.close()
