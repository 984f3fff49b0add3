"""What bare processes take: the floors of kill.py and memory.py."""

from __future__ import annotations

import subprocess
import sys
from typing import Self

import psutil

KILLER = """
import os, signal, sys, time

def forked():
    told, tell = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(tell, b"x")
        signal.pause()
    os.read(told, 1)
    os.close(told)
    os.close(tell)
    return pid

pid = forked()
for _ in sys.stdin:
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pid = forked()
    print((time.monotonic() - began) * 1000, flush=True)
os.kill(pid, signal.SIGKILL)
"""


class BareProcesses:
    """A small process that kills a child and forks the next one."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-c", KILLER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def kill_ms(self) -> float:
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("it has no pipes")
        self._process.stdin.write("\n")
        return float(self._process.stdout.readline())


SLEEPERS = """
import os, signal, sys, psycopg
children = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if not pid:
        signal.pause()
    children.append(pid)
print("ready", flush=True)
sys.stdin.read()
for pid in children:
    os.kill(pid, signal.SIGKILL)
"""


def sleepers_mb(processes: int) -> tuple[float, float, float]:
    """Proportional shares: of a process that has the driver, of each of its forks, and of all."""
    command = [sys.executable, "-c", SLEEPERS, str(processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        process.stdout.readline()
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children()]
        pss = [each.memory_full_info().pss / 1e6 for each in family]
        process.communicate()
    return pss[0], sum(pss[1:]) / processes, sum(pss)
