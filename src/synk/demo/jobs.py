"""The demo's jobs: honest CPU work on a file, and one of each kind that misbehaves."""

from __future__ import annotations

import ast
import ctypes
import datetime as dt
import hashlib
import lzma
import os
import subprocess
import sysconfig
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import synk

FILE_BYTES_MAX: Final = 256 * 1024
"""What is read of a file, so that one large file does not hold a worker for seconds."""

TIMEOUT: Final = dt.timedelta(seconds=2)
"""What the jobs get that hang."""


@dataclass
class File(synk.JobArgs, kind="file"):
    """One file to work on."""

    path: str


@dataclass
class Planted(synk.JobArgs, kind="planted"):
    """A job that misbehaves; *how* is the name of the `Misbehaver`'s method."""

    how: str


@synk.worker
def work_on_file(job: synk.Job[File]) -> dict[str, object]:
    """Parses a file if it is Python, compresses it and hashes it."""
    path = Path(job.args.path)
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX)
    return {
        "bytes": len(content),
        "nodes": _syntax_nodes(content) if path.suffix == ".py" else 0,
        "compressed": len(lzma.compress(content, preset=6)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _syntax_nodes(content: bytes) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return sum(1 for _ in ast.walk(ast.parse(content)))
        except (SyntaxError, ValueError):
            # Cut off, or a file of the library's tests that is wrong on purpose.
            return 0


class Misbehaver(synk.Worker[Planted]):
    """Does what its job says, all of it harm that a worker process must survive, or not."""

    def work(self, job: synk.Job[Planted]) -> object | None:
        """Calls the method that the job names."""
        how = job.args.how
        if how not in PLANTED:
            raise LookupError(f"no such misbehaviour: {how}")
        return getattr(self, how)(job)

    def timeout(self, job: synk.Job[Planted]) -> dt.timedelta | None:  # noqa: ARG002 - for all alike
        """Two seconds."""
        return TIMEOUT

    def next_retry(self, job: synk.Job[Planted], error: BaseException) -> dt.datetime | None:  # noqa: ARG002 - for all alike
        """At once, nearly: a demo does not wait."""
        return dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=300)

    def raises(self, job: synk.Job[Planted]) -> None:
        """Fails with an exception that has a cause."""
        try:
            _price_of({"id": job.id})
        except KeyError as error:
            raise ValueError(f"order {job.id} cannot be priced") from error

    def hangs_in_c(self, job: synk.Job[Planted]) -> None:  # noqa: ARG002 - the same for all
        """Waits in C without giving the GIL back: no Python code can run, no handler, no thread."""
        ctypes.PyDLL(None).pause()

    def segfaults(self, job: synk.Job[Planted]) -> None:  # noqa: ARG002 - the same for all
        """Reads where nothing is."""
        ctypes.string_at(0)

    def exits(self, job: synk.Job[Planted]) -> None:  # noqa: ARG002 - the same for all
        """Ends the process with the status of success."""
        os._exit(0)

    def hangs_with_child(self, job: synk.Job[Planted]) -> None:  # noqa: ARG002 - the same for all
        """Waits for a child that never ends."""
        subprocess.run(["sleep", "86400"], check=True)  # noqa: S607 - any sleep will do

    def succeeds_later(self, job: synk.Job[Planted]) -> str:
        """Fails first, then not."""
        if job.attempt == 1:
            raise ConnectionError("the other side is not up yet")
        return f"attempt {job.attempt}, after {job.errors[0].error}"


def _price_of(order: dict[str, int]) -> int:
    return order["price"]


@dataclass(frozen=True, slots=True)
class Expected:
    """How a planted job must end."""

    state: synk.JobState
    cause: synk.Cause
    attempts: int = 1


_CANCELLED: Final = synk.JobState.CANCELLED

PLANTED: Final[dict[str, Expected]] = {
    "raises": Expected(_CANCELLED, synk.Cause.EXCEPTION),
    "hangs_in_c": Expected(_CANCELLED, synk.Cause.TIMEOUT),
    "segfaults": Expected(_CANCELLED, synk.Cause.SIGNAL),
    "exits": Expected(_CANCELLED, synk.Cause.EXIT),
    "hangs_with_child": Expected(_CANCELLED, synk.Cause.TIMEOUT),
    "succeeds_later": Expected(synk.JobState.COMPLETED, synk.Cause.EXCEPTION, attempts=2),
}


def files_in(folder: Path | None) -> list[Path]:
    """Returns the files to work on: all of *folder*, or the standard library's sources."""
    pattern = "*" if folder else "*.py"
    root = folder or Path(sysconfig.get_path("stdlib"))
    found = [
        path
        for path in root.rglob(pattern)
        if "site-packages" not in path.relative_to(root).parts
        and path.is_file()
        and os.access(path, os.R_OK)
        and _is_text(str(path))
    ]
    return sorted(found)


def _is_text(name: str) -> bool:
    """Whether a job's arguments can hold *name*: the kernel takes any bytes for one."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
