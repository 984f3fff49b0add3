"""What imports leave behind: refused, warned of, or made each worker's own."""

from __future__ import annotations

import importlib
import logging
import re
import zipfile
from pathlib import Path

import pytest

from support.failing_starts import module_of, problem_at_start
from support.supervising import ended, make_client, supervised
from synk import JobState

HANDLER = """
import synk, time
from dataclasses import dataclass

@dataclass
class Ask(synk.JobArgs, kind="ask"):
    number: int

{made}

@synk.worker
def ask(job: synk.Job[Ask]) -> object:
    {done}
"""


def module(folder: Path, patch: pytest.MonkeyPatch, name: str, made: str, done: str):
    text = HANDLER.format(made=made, done=done)
    return importlib.import_module(module_of(folder, name, text, patch))


def refusal(dsn: str, found) -> str:
    with make_client(dsn, workers=[found.ask]) as client:
        return str(problem_at_start(client))


@pytest.mark.parametrize("opened", ["zip", "file"])
def test_a_file_that_an_import_reads_has_a_place_of_its_own_in_each_worker(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: str
) -> None:
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        for number in range(8):
            archive.writestr(str(number), bytes([number]) * 300_000)
    made = f"import zipfile\nkept = zipfile.ZipFile({str(tmp_path / 'data.zip')!r})"
    done = "return all(set(kept.read(str(job.args.number))) == {job.args.number} for _ in range(9))"
    if opened == "file":
        (tmp_path / "data").write_bytes(b"".join(bytes([n]) * 300_000 for n in range(8)))
        made = f"kept = open({str(tmp_path / 'data')!r}, 'rb')"
        done = (
            "return all(kept.seek(job.args.number * 300_000) >= 0 and"
            " set(kept.read(300_000)) == {job.args.number} for _ in range(50))"
        )
    found = module(tmp_path, monkeypatch, f"reads_a_{opened}", made, done)

    with supervised(dsn, workers=[found.ask], processes=4) as client:
        ids = client.insert_many([("x", found.Ask(n % 8)) for n in range(40)])
        rows = [ended(client, job_id) for job_id in ids]

    assert {(row.state, row.result) for row in rows} == {(JobState.COMPLETED, True)}


def test_a_file_that_an_import_leaves_open_for_writing_is_refused_by_its_path(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = f"kept = open({str(tmp_path / 'written')!r}, 'w+b')"
    found = module(tmp_path, monkeypatch, "writes_a_file", made, "return 1")

    problem = refusal(dsn, found)

    assert f"writes_a_file: its import left the file {tmp_path / 'written'} open" in problem
    assert "on_worker_start" in problem


def test_logs_and_maps_that_an_import_opens_are_no_matter(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = f"""
import logging, logging.handlers, mmap, multiprocessing, pathlib, tempfile
one = logging.FileHandler({str(tmp_path / "one.log")!r})
two = logging.FileHandler({str(tmp_path / "two.log")!r}, mode="w")
with open({str(tmp_path / "mapped")!r}, "w+b") as file:
    file.write(b"x" * 4096)
    file.flush()
    kept = mmap.mmap(file.fileno(), 4096)
lock = multiprocessing.Lock()
shared = multiprocessing.Value("i")
null = open("/dev/null", "w")
"""
    found = module(tmp_path, monkeypatch, "keeps_a_log", made, "return kept[:1].decode()")

    with supervised(dsn, workers=[found.ask]) as client:
        assert ended(client, client.insert("x", found.Ask(1))).result == "x"


def test_an_event_loop_that_an_import_makes_is_refused(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (
        "import asyncio, os\nif 'SYNK_SUPERVISOR' in os.environ:\n    l = asyncio.new_event_loop()"
    )
    found = module(tmp_path, monkeypatch, "makes_a_loop", made, "return 1")

    assert "its import left an event loop" in refusal(dsn, found)


@pytest.mark.parametrize(
    ("library", "made"),
    [
        ("polars", "import polars as pl\nframe = pl.LazyFrame({'a': [1]}).sort('a').collect()"),
        # Its threads are begun by the C++ library.
        ("duckdb", "import duckdb\nduckdb.sql('select sum(range) from range(100000)').fetchall()"),
    ],
    ids=["polars", "duckdb"],
)
def test_threads_that_an_import_leaves_are_refused_by_the_library_s_name(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, made: str
) -> None:
    found = module(tmp_path, monkeypatch, f"uses_{library}", made, "return 1")

    problem = refusal(dsn, found)

    assert re.search(rf"uses_{library}: its import left threads of [^,]*{library}", problem)
    assert "synk-forkserver" not in problem


def test_a_library_of_native_threads_that_an_import_only_loads_runs_in_jobs(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "import polars as pl"
    done = "return pl.LazyFrame({'a': [job.args.number]}).sort('a').collect().height"
    found = module(tmp_path, monkeypatch, "loads_polars", made, done)

    with supervised(dsn, workers=[found.ask]) as client:
        assert ended(client, client.insert("x", found.Ask(1))).result == 1


def test_threads_of_numpy_survive_and_nothing_is_said(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = "import numpy as np\nmatrix = np.ones((600, 600)) @ np.ones((600, 600))"
    done = "return float((matrix @ matrix)[0, 0])"
    found = module(tmp_path, monkeypatch, "multiplies", made, done)

    with caplog.at_level(logging.WARNING), supervised(dsn, workers=[found.ask]) as client:
        assert ended(client, client.insert("x", found.Ask(1))).result == 216_000_000.0

    assert [each for each in caplog.messages if "import" in each] == []


def test_generators_that_an_import_makes_repeat_in_no_worker(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = """
import random
import numpy as np
class Holder:
    inner = np.random.default_rng()
    def __init__(self):
        self.deep = {"list": [np.random.Generator(np.random.MT19937())]}
holder = Holder()
plain, old, seeded = random.Random(), np.random.RandomState(), np.random.default_rng(42)
"""
    done = (
        "return [f() for f in (plain.random, old.random, holder.inner.random,"
        " holder.deep['list'][0].random, seeded.random, random.random, np.random.random)]"
    )
    found = module(tmp_path, monkeypatch, "draws", made, done)

    with (
        caplog.at_level(logging.WARNING),
        supervised(dsn, workers=[found.ask], processes=1, max_jobs=1) as client,
    ):
        ids = client.insert_many([("x", found.Ask(n)) for n in range(4)])
        rows = [ended(client, job_id) for job_id in ids]

    results = [each.result for each in rows if isinstance(each.result, list)]
    drawn = [[str(result[at]) for result in results] for at in range(7)]
    assert [len(set(numbers)) for numbers in drawn] == [4, 4, 4, 4, 1, 4, 4]
    assert any("draws.seeded was made at import with a seed" in each for each in caplog.messages)
