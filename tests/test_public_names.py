from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import synk

SOURCE = Path(synk.__file__).parent


def test_every_public_name_can_be_had() -> None:
    for name in synk.__all__:
        assert getattr(synk, name) is not None


def test_the_contracts_names_are_public() -> None:
    promised = {
        "AsyncClient", "AttemptError", "CancelReason", "CleanerConfig", "Client", "InsertOptions",
        "Job", "JobArgs", "JobRow", "JobState", "PostgresStorage", "Priority", "QueueConfig",
        "Storage", "SynkError", "Worker", "worker",
    }  # fmt: skip

    assert promised <= set(synk.__all__)


def test_importing_synk_loads_no_driver() -> None:
    code = "import sys, synk; print('psycopg' in sys.modules)"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip

    assert done.stdout.strip() == "False"


def test_nothing_of_multiprocessing_is_shared_between_workers() -> None:
    banned = re.compile(
        r"multiprocessing\.(Queue|SimpleQueue|Lock|RLock|Event|Manager|Pool|Value|Array|Semaphore)"
        r"|\bpickle\.loads?\b|^\s*(import|from) pickle"
        r"|context\.(Queue|SimpleQueue|Lock|RLock|Event|Manager|Pool|Value|Array|Semaphore)",
        re.MULTILINE,
    )

    found = {
        str(path): banned.findall(path.read_text())
        for path in SOURCE.rglob("*.py")
        if banned.search(path.read_text())
    }

    assert found == {}
