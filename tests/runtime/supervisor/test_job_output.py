"""What jobs write: kept with each of them, passed on, and no reason to wait for anybody."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import synk
from support.acting import acting, error_of, insert, run
from support.supervising import (
    DEADLINE_S,
    SupervisorProcess,
    ended,
    make_client,
    program_env,
    wait_until,
)
from synk import Cause, JobState

TAIL = 16 * 1024
OPTIONS = "{'workers': __import__('support.jobs.actors', fromlist=['x']).WORKERS}"


@pytest.fixture(scope="module")
def client(shared_dsn: str) -> Iterator[synk.Client]:
    """With one worker, so that one job after the other writes in the same process."""
    with acting(shared_dsn, processes=1) as client:
        yield client


WAYS = [
    "by print",
    "to stderr",
    "by logging",
    "by puts",
    "by printf",
    "by write",
    "by a child",
    "and its stderr",
]


def ways_in(output: str) -> list[str]:
    """The lines, that of the log without what it begins with."""
    return sorted(line.rpartition(" job: ")[2] for line in output.splitlines())


def test_output_is_kept_whoever_writes_it(client: synk.Client) -> None:
    row = run(client, "print_in_every_way")

    assert row.state is JobState.COMPLETED
    assert ways_in(row.output) == sorted(WAYS)


def test_output_is_kept_also_of_a_job_that_is_killed_right_after(client: synk.Client) -> None:
    error = error_of(run(client, "print_in_every_way", text="killed"))

    assert error.signal == "SIGKILL"
    assert ways_in(error.output) == sorted(WAYS)


def test_output_up_to_a_timeout_is_in_the_record(client: synk.Client) -> None:
    error = error_of(run(client, "print_and_hang", timeout_s=0.3))

    assert error.cause is Cause.TIMEOUT
    assert error.output == "the last words\n"


def test_a_line_without_an_end_belongs_to_its_job(client: synk.Client) -> None:
    row, after = run(client, "print_unfinished_line"), run(client, "print_text", text="next")

    assert row.output == "no end of line"
    assert after.output == "next\n"


def test_output_of_jobs_in_a_row_does_not_mix(client: synk.Client) -> None:
    texts = [str(n) * 50 for n in range(40)]
    ids = [insert(client, "print_text", text=text) for text in texts]

    rows = [ended(client, job_id) for job_id in ids]

    assert [row.output for row in rows] == [f"{text}\n" for text in texts]
    assert len({row.pid for row in rows}) == 1
    assert run(client, "nothing").output == ""


def test_a_worker_that_comes_after_many_writers_is_heard(client: synk.Client) -> None:
    """Descriptors of pipes that are done have numbers that others get."""
    for n in range(15):
        for job_id in [insert(client, "print_text", text=str(n)) for _ in range(10)]:
            assert ended(client, job_id).output == f"{n}\n"
        assert error_of(run(client, "os_exit", number=n)).exit_code == n


def test_what_a_job_left_running_writes_is_not_the_next_jobs(
    client: synk.Client, tmp_path: Path
) -> None:
    path = tmp_path / "write"

    first = run(client, "leave_a_writer", path=path)
    second = run(client, "let_the_writer_write", path=path)

    assert (first.output, second.output) == ("from the first\n", "from the second\n")
    assert first.pid == second.pid


def test_the_last_sixteen_kilobytes_are_kept(client: synk.Client) -> None:
    row = run(client, "print_flood", number=2)

    assert row.result == "written"
    assert 0.9 * TAIL < len(row.output) <= TAIL
    assert row.output.endswith(f"000019999{'x' * 90}\n")


@pytest.mark.parametrize("end", ["", "\nend\n"])
def test_a_progress_bar_does_not_push_the_rest_out(client: synk.Client, end: str) -> None:
    """As tqdm and pip draw it; and only its last state is of interest."""
    row = run(client, "draw_bar", number=2000, text=end)

    assert row.output == f"begin\n  1999 \u2588\u2588 of 2000{end}"


def test_bars_below_each_other_do_not_push_the_rest_out(client: synk.Client) -> None:
    row = run(client, "draw_nested_bars")

    begin, outer, end = row.output.splitlines()
    assert (begin, end) == ("begin", "end")
    assert outer.startswith("outer: 100%|")
    assert "300/300" in outer


def test_a_line_that_is_written_over_is_kept_as_a_terminal_shows_it(client: synk.Client) -> None:
    row = run(client, "draw_short_over_long")

    assert row.output == "xyzdef\nshort\nwindows\n67345"


def test_a_tail_begins_with_a_whole_character(client: synk.Client) -> None:
    row = run(client, "print_characters")

    assert set(row.output) == {"\u20ac", "\n"}
    assert TAIL - 6 < len(row.output.encode()) <= TAIL


def test_bytes_that_are_no_text_are_shown_as_such(client: synk.Client) -> None:
    output = run(client, "write_bytes").output

    assert output.startswith("before")
    assert output.endswith("after\n")
    assert "\x00" not in output


@pytest.mark.parametrize("how", ["stream", "descriptor", "elsewhere"])
def test_a_job_that_closes_stdout_takes_it_from_no_other(client: synk.Client, how: str) -> None:
    assert run(client, "close_stdout", text=how).state is JobState.COMPLETED

    assert run(client, "print_text", text="there").output == "there\n"


def test_output_is_passed_on_to_the_supervisors_stderr(dsn: str) -> None:
    with make_client(dsn) as client, SupervisorProcess(dsn, OPTIONS) as supervisor:
        run(client, "print_text", text="for the log")
        supervisor.process.terminate()
        _, out, err = supervisor.wait()

    assert "for the log\n" in err
    assert "for the log" not in out


def test_w27_a_log_that_nobody_reads_stops_neither_jobs_nor_timeouts_nor_records(
    dsn: str,
) -> None:
    """The supervisor's own lines go the same way as what jobs write."""
    with make_client(dsn) as client, SupervisorProcess(dsn, OPTIONS) as supervisor:
        flood = run(client, "print_flood", number=3)
        endless = run(client, "print_for_ever", timeout_s=0.5)
        # Each failure is a line of the supervisor's log.
        failed = [run(client, "sys_exit", number=n) for n in range(20)]
        done = run(client, "nothing")

        assert flood.result == "written"
        assert error_of(endless).cause is Cause.TIMEOUT
        assert {row.state for row in failed} == {JobState.CANCELLED}
        assert done.state is JobState.COMPLETED
        # It drains, too, while nobody reads.
        supervisor.process.terminate()
        wait_until(lambda: supervisor.processes() == [], what="the processes to end")
        code, out, err = supervisor.wait()
    assert (code, out) == (0, "returned\n")
    assert "bytes of jobs' output were dropped" in err


def test_w27_a_closed_stderr_stops_nothing(dsn: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    # As where it is closed from the start: the next file gets its number.
    program = (
        "import os, sys; os.close(2); sys.stderr = None;"
        "assert os.open(sys.argv[2], os.O_RDWR | os.O_CREAT) == 2;"
        "from support.supervising import make_client; from support.jobs.actors import WORKERS;"
        "client = make_client(sys.argv[1], workers=WORKERS); client.start()"
    )
    env = program_env()
    process = subprocess.Popen([sys.executable, "-c", program, dsn, str(other)], env=env)
    try:
        with make_client(dsn) as client:
            rows = [run(client, "print_text", text="unheard") for _ in range(3)]
            rows.append(run(client, "print_flood", number=1))
            failed = run(client, "sys_exit")
        process.terminate()
        code = process.wait(DEADLINE_S)
    finally:
        process.kill()
        process.wait()

    assert {row.state for row in rows} == {JobState.COMPLETED}
    assert rows[0].output == "unheard\n"
    assert failed.state is JobState.CANCELLED
    assert code == 0
    assert other.read_text() == ""


def test_w27_a_reader_that_goes_away_stops_nothing(dsn: str) -> None:
    with make_client(dsn) as client, SupervisorProcess(dsn, OPTIONS) as supervisor:
        assert supervisor.process.stderr is not None
        reader = supervisor.process.stderr
        run(client, "print_text", text="heard")
        threading.Thread(target=reader.close).start()
        rows = [run(client, "print_text", text="unheard") for _ in range(3)]
        failed = run(client, "sys_exit")

    assert {row.output for row in rows} == {"unheard\n"}
    assert failed.state is JobState.CANCELLED
