"""What the README says is true."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import synk
from support.supervising import ended

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_runs_as_it_stands(dsn: str) -> None:
    example = next(re.finditer(r"```python\n(.*?)```", README, re.DOTALL)).group(1)
    assert "embedded" in example
    folder = Path(tempfile.mkdtemp())
    (folder / "app.py").write_text(example.replace('"embedded"', repr(dsn)))

    process = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        job_id = int(re.findall(r"inserted job (\d+)", said)[0])
        with synk.Client(storage=synk.PostgresStorage(dsn)) as client:
            row = ended(client, job_id)
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert row.result == sum(n * n for n in range(1_000_000))
    assert process.returncode == 0, errors


def test_the_two_commands_are_one_line_each() -> None:
    commands = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)

    assert [command.count("\n") for command in commands] == [1, 1]
    assert "synk demo" in commands[0]
    assert "pytest" in commands[1]


def test_every_file_that_the_readme_names_is_there() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"`((?:src|bench|tests)/[\w./]+)`|\]\(((?:\.assets|src)/[\w./]+)\)", README)

    assert named
    for pair in named:
        assert (root / (pair[0] or pair[1])).exists(), pair
