"""The demo's producer, a process of its own: ``python -m synk.demo.produce QUEUE [FOLDER]``.

The database comes in SYNK_DATABASE_URL, since arguments are for everybody to see.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import synk
from synk.demo.jobs import PLANTED, File, Planted, files_in
from synk.status import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from synk.insertion import JobSpec

BATCH = 100


def jobs(queue: str, folder: Path | None) -> Iterator[JobSpec]:
    """Yields a job for each file, and the planted ones among them."""
    options = synk.InsertOptions(queue=queue)
    files = files_in(folder)
    planted = list(PLANTED)
    every = max(1, len(files) // (len(planted) + 1))
    for number, path in enumerate(files, 1):
        yield (_label(path.name), File(str(path)), options)
        if number % every == 0 and planted:
            yield _planted(queue, planted.pop(0))
    for how in planted:
        yield _planted(queue, how)


def _label(name: str) -> str:
    return printable(name)[:127] if name.strip() else "file"


def _planted(queue: str, how: str) -> JobSpec:
    # The one that succeeds later has a second attempt, the others need none.
    retries = PLANTED[how].attempts - 1
    return (how, Planted(how), synk.InsertOptions(queue=queue, max_retries=retries))


def main() -> None:
    """Inserts them all."""
    queue, *rest = sys.argv[1:]
    waiting = jobs(queue, Path(rest[0]) if rest else None)
    with synk.Client(storage=synk.PostgresStorage()) as client:
        while batch := list(islice(waiting, BATCH)):
            client.insert_many(batch)


if __name__ == "__main__":
    main()
