"""Jobs that look for what they should not find, or say what should not be believed."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import synk


@dataclass
class Snoop(synk.JobArgs, kind="snoop"):
    """Looks for *word*, spelt backwards, in all that a worker process can see of itself."""

    drow: str


@synk.worker
def snoop(job: synk.Job[Snoop]) -> list[str]:
    word = job.args.drow[::-1].encode()
    pids = [os.getpid(), os.getppid()]
    places = [Path(f"/proc/{pid}/{name}") for pid in pids for name in ("environ", "cmdline")]
    found = [str(place) for place in places if word in place.read_bytes()]
    child = subprocess.run(["env"], capture_output=True, check=True).stdout
    found += ["the environment of a child"] * (word in child)
    found += [name for name, value in os.environ.items() if word in value.encode()]
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    found += [str(link) for link in links if word in os.fsencode(link.readlink())]
    return found


@dataclass
class Peek(synk.JobArgs, kind="peek"):
    """Tries to read what process *pid*, and this one's parent, were given and have in memory."""

    pid: int


@synk.worker
def peek(job: synk.Job[Peek]) -> dict[str, str]:
    return {
        f"{whose} {name}": _read(f"/proc/{pid}/{name}")
        for whose, pid in (("its", job.args.pid), ("parent's", os.getppid()))
        for name in ("environ", "mem")
    }


def _read(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return "open"
    except PermissionError:
        return "closed"


@dataclass
class Say(synk.JobArgs, kind="say"):
    """Fails with a text."""

    text: str
    secret: str = ""


@synk.worker
def say(job: synk.Job[Say]) -> None:
    local = job.args.secret
    raise ValueError(job.args.text.format(len(local)))


WORKERS = [snoop, peek, say]
