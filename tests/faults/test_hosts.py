"""Many machines: supervisors on three hosts of a network, one of which is cut off for a while."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

import synk
from support import needs
from support.jobs import handlers
from support.networked import NetworkedServer, networked_server
from support.servers import new_folder
from support.supervising import SupervisorProcess, ended, is_running, make_client, wait_until
from synk import Cause, JobState
from synk.status import ClientRow

NETWORK = f"10.{os.getpid() % 200 + 20}"
"""Of runs beside this one, each has another."""

OPTIONS = "{'lease_ttl': __import__('datetime').timedelta(seconds=6), 'processes': 1}"
JOBS = 150


class CannotBeRunError(Exception):
    pass


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBeRunError(f"{' '.join(command)}: {done.stderr.strip()}")


def ip(*arguments: str) -> None:
    run("ip", *arguments)


class Host:
    """A machine of its own as far as the network and its name go, on a cable to this one."""

    def __init__(self, number: int, stack: ExitStack) -> None:
        self.name = f"synk{os.getpid()}h{number}"
        self.address = f"{NETWORK}.{number}.2"
        self.gateway = f"{NETWORK}.{number}.1"
        self._cable = f"s{os.getpid()}v{number}"
        inner = f"{self._cable}i"
        stack.callback(self._remove)
        ip("netns", "add", self.name)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", inner, "netns", self.name)
        ip("addr", "add", f"{self.gateway}/24", "dev", self._cable)
        ip("link", "set", self._cable, "up")
        ip("-n", self.name, "addr", "add", f"{self.address}/24", "dev", inner)
        ip("-n", self.name, "link", "set", inner, "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    @property
    def prefix(self) -> list[str]:
        """Runs a command there."""
        script = f'hostname {self.name} && exec "$@"'
        return ["ip", "netns", "exec", self.name, "unshare", "--uts", "sh", "-c", script, "sh"]

    def cut_off(self) -> None:
        """Nothing that is sent arrives any more, and nobody is told."""
        ip("link", "set", self._cable, "down")

    def bring_back(self) -> None:
        ip("link", "set", self._cable, "up")

    def _remove(self) -> None:
        subprocess.run(["ip", "link", "del", self._cable], capture_output=True, check=False)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)


@contextmanager
def network(count: int) -> Iterator[list[Host]]:
    if os.geteuid() != 0:
        pytest.skip("only root can make hosts of network namespaces")
    needs.program("ip")
    with ExitStack() as stack:
        try:
            hosts = [Host(number, stack) for number in range(count)]
            run(*hosts[0].prefix, "true")
        except CannotBeRunError as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield hosts


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    with network(3) as hosts:
        yield hosts


@pytest.fixture
def server(hosts: list[Host]) -> Iterator[NetworkedServer]:
    folder = new_folder("synk-hosts-")
    hba = f"host all all {NETWORK}.0.0/16 scram-sha-256"
    listen = ",".join(host.gateway for host in hosts)
    try:
        with networked_server(folder, listen=listen, hba=hba) as server:
            yield server
    finally:
        shutil.rmtree(folder)


def test_a_host_that_is_cut_off_loses_its_jobs_to_others_and_serves_again_afterwards(
    hosts: list[Host], server: NetworkedServer, tmp_path: Path
) -> None:
    log, lines = tmp_path / "once", tmp_path / "lines"
    with ExitStack() as stack:
        client = stack.enter_context(make_client(server.local))
        for host in hosts:
            dsn = server.dsn(host.gateway)
            stack.enter_context(SupervisorProcess(dsn, OPTIONS, prefix=host.prefix))
        names = {host.name for host in hosts}
        wait_until(lambda: {each.host for each in supervisors(client)} == names, what="all three")

        long = client.insert("x", handlers.Once(str(log)))
        wait_until(lambda: is_running(client, long) and log.exists())
        cut = next(host for host in hosts if host.name == host_of(client, long))
        ids = client.insert_many(
            [("x", handlers.Write(str(lines), str(n), sleep_s=0.05)) for n in range(JOBS)]
        )
        cut.cut_off()
        row = ended(client, long)
        rows = [ended(client, job_id) for job_id in ids]
        cut.bring_back()
        # It begins anew, under another name.
        again = wait_until(
            lambda: served_by(client, cut.name), seconds=60, what="the host to serve"
        )

    assert (row.state, row.attempt, row.lost) == (JobState.COMPLETED, 2, 1)
    assert (row.errors[0].cause, row.errors[0].host) == (Cause.LOST, cut.name)
    assert row.host != cut.name
    assert log.read_text().split() == ["1", "2"]
    assert {(each.state, each.attempt - each.uncounted - each.lost) for each in rows} == {
        (JobState.COMPLETED, 1)
    }
    assert Counter(lines.read_text().split()) == Counter(str(n) for n in range(JOBS))
    assert again.attempted_by[-1] not in row.attempted_by


def supervisors(client: synk.Client) -> list[ClientRow]:
    return [each for each in client.storage.clients(timedelta(minutes=5)) if each.runs]


def host_of(client: synk.Client, job_id: int) -> str | None:
    row = client.get(job_id)
    return None if row is None else row.host


def served_by(client: synk.Client, host: str) -> synk.JobRow | None:
    """Has all supervisors busy for a moment; returns a job that this host ran."""
    ids = client.insert_many([("x", handlers.Write("/dev/null", sleep_s=0.2)) for _ in range(6)])
    rows = [ended(client, job_id) for job_id in ids]
    return next((row for row in rows if row.host == host), None)
