"""What can be seen of running jobs from elsewhere: progress, slots, errors, stacks."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from inspect import signature
from pathlib import Path

import pytest

import synk
from support.jobs import handlers
from support.supervising import ended, is_running, supervised, wait_until
from synk.runtime.supervisor import stacks
from synk.status import ClientRow
from synk.testing import making

AN_HOUR = timedelta(hours=1)


@pytest.fixture
def client(dsn: str) -> Iterator[synk.Client]:
    with supervised(dsn) as client:
        yield client


def report_of(client: synk.Client) -> ClientRow:
    return next(row for row in client.storage.clients(AN_HOUR) if row.id == client.id.to_uuid())


def started(client: synk.Client, args: handlers.Slow) -> int:
    job_id = client.insert("slow", args)
    wait_until(lambda: (row := client.get(job_id)) and row.progress)
    return job_id


def test_progress_and_checkpoint_are_in_the_row_while_the_job_runs(
    client: synk.Client, tmp_path: Path
) -> None:
    job_id = started(client, handlers.Slow(str(tmp_path / "gate")))

    row = client.get(job_id)

    assert row is not None
    assert row.state is synk.JobState.RUNNING
    assert row.progress == synk.Progress(3, 12, "a third")
    assert row.checkpoint == {"page": 3}


def test_a_supervisor_reports_what_its_workers_do(client: synk.Client, tmp_path: Path) -> None:
    job_id = started(client, handlers.Slow(str(tmp_path / "gate")))

    report = wait_until(
        lambda: (found := report_of(client)) and found.slots and found.slots[0].rss_bytes and found
    )

    assert report.runs
    assert report.queues == ["default"]
    assert [slot.job_id for slot in report.slots if slot.job_id] == [job_id]
    slot = next(slot for slot in report.slots if slot.job_id)
    assert (slot.kind, slot.name, slot.attempt, slot.queue) == ("slow", "slow", 1, "default")
    assert slot.progress == synk.Progress(3, 12, "a third")
    assert slot.seconds > 0
    assert slot.pid is not None


def test_a_supervisor_reports_its_last_errors(client: synk.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = started(client, handlers.Slow(str(gate), fails=True))
    gate.touch()

    report = wait_until(lambda: (found := report_of(client)) and found.errors and found)

    assert [(error.job_id, error.kind) for error in report.errors] == [(job_id, "slow")]
    assert report.errors[0].error == "ValueError: the gate is open"


def test_a_supervisor_says_that_it_stopped(dsn: str) -> None:
    with supervised(dsn) as client:
        ended(client, client.insert("noop", handlers.Noop()))
        own = client.id.to_uuid()

    with synk.Client(storage=synk.PostgresStorage(dsn)) as other:
        (row,) = other.storage.clients(AN_HOUR)
    assert row.id == own
    assert row.stopped_at is not None
    assert not row.runs


def test_a_running_job_tells_where_it_is_and_goes_on(client: synk.Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = started(client, handlers.Slow(str(gate)))

    stacks = [client.stack(job_id) for _ in range(5)]
    gate.touch()
    row = ended(client, job_id)

    assert all(stack and "in wait_for_the_gate" in stack for stack in stacks)
    assert not any("work.py" in str(stack) for stack in stacks)
    assert (row.state, row.attempt, row.errors) == (synk.JobState.COMPLETED, 1, [])


def test_asking_a_later_job_of_a_worker_does_not_hurt_it(dsn: str, tmp_path: Path) -> None:
    """The handler of the signal is there for every job, not for the first alone."""
    gate = tmp_path / "gate"
    with supervised(dsn, processes=1) as client:
        for _ in range(3):
            ended(client, client.insert("w", handlers.Write(str(tmp_path / "log"), sleep_s=0.01)))
        job_id = started(client, handlers.Slow(str(gate)))

        stack = client.stack(job_id)
        gate.touch()
        row = ended(client, job_id)

    assert stack is not None
    assert "in wait_for_the_gate" in stack
    assert (row.state, row.attempt) == (synk.JobState.COMPLETED, 1)


def test_a_job_in_c_code_is_not_hurt_by_the_question(
    client: synk.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacks, "program", lambda: None)
    job_id = started(client, handlers.Slow(str(tmp_path / "gate"), code="c"))

    answer = client.stack(job_id)

    assert answer is not None
    # The signal may end what it waits for in C.
    assert "did not answer" in answer or "in slow" in answer
    assert is_running(client, job_id)


def test_with_py_spy_a_job_in_c_code_need_not_answer(client: synk.Client, tmp_path: Path) -> None:
    skip_unless_py_spy_may_look()
    job_id = started(client, handlers.Slow(str(tmp_path / "gate"), code="c"))

    stacks = [client.stack(job_id) for _ in range(3)]

    for stack in stacks:
        assert stack is not None
        *_, place, source = stack.splitlines()
        assert place.endswith(", in slow")
        assert "handlers.py" in place
        assert source.strip() == "ctypes.PyDLL(None).sleep(1000)"
        assert "work.py" not in stack
    assert is_running(client, job_id)


def skip_unless_py_spy_may_look() -> None:
    program = stacks.program()
    if program is None:
        pytest.skip("py-spy is not installed")
    waits = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", waits], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        command = [program, "dump", "--json", "--nonblocking", "--pid", str(other.pid)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        other.communicate()
    if done.returncode != 0:
        pytest.skip(f"py-spy cannot look into another process here: {done.stderr.strip()}")


def test_a_job_that_does_not_run_has_no_stack(client: synk.Client) -> None:
    job_id = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))

    assert client.stack(job_id) is None


def test_asyncio_asks_where_a_job_is_and_goes_on_meanwhile(
    client: synk.Client, dsn: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job_id = started(client, handlers.Slow(str(gate)))
    held = client.insert("x", handlers.Noop(), synk.InsertOptions(pending=True))

    async def ask() -> list[str | None]:
        async with synk.AsyncClient(storage=synk.PostgresStorage(dsn)) as asking:
            return await asyncio.gather(*map(asking.stack, (job_id, held, job_id)))

    first, none, second = asyncio.run(ask())
    gate.touch()
    row = ended(client, job_id)

    assert first
    assert second
    assert "in wait_for_the_gate" in first
    assert "in wait_for_the_gate" in second
    assert none is None
    assert (row.state, row.attempt, row.errors) == (synk.JobState.COMPLETED, 1, [])


def test_who_asks_where_a_job_is_hears_that_nobody_answers(storage: synk.PostgresStorage) -> None:
    making.insert(storage)
    (job,) = making.claim(storage)

    async def ask(wait: timedelta) -> str | None:
        async with synk.AsyncClient(storage=storage) as asking:
            return await asking.stack(job.id, wait)

    with synk.Client(storage=storage) as asking:
        for call in (partial(asking.stack, job.id), lambda wait: asyncio.run(ask(wait))):
            with pytest.raises(synk.ConfigurationError, match="timeout"):
                call(timedelta(seconds=-1))
            assert storage.stack_questions(making.OWNER) == []
            with pytest.raises(synk.StorageUnavailable, match=f"job {job.id} did not answer"):
                call(timedelta(0))
            for question, _ in storage.stack_questions(making.OWNER):
                storage.answer_stack(question, "too late")


def test_asyncio_has_the_verbs_of_the_client() -> None:
    runs = {"running", "shutdown", "start"}
    verbs = {
        name
        for name in vars(synk.Client)
        if name[0] != "_" and callable(getattr(synk.Client, name))
    }

    for name in verbs - runs:
        of_client, of_asyncio = (
            signature(getattr(kind, name)) for kind in (synk.Client, synk.AsyncClient)
        )
        assert str(of_client) == str(of_asyncio)
