"""The command line at its edges, as a process of its own; its daily use is in `test_commands`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import synk
from support.commands import ENV
from support.jobs import handlers
from support.supervising import (
    DEADLINE_S,
    ended,
    is_running,
    make_client,
    supervised,
    wait_until,
)

LINE = "import sys, synk.cli; sys.argv[0] = 'synk'; "


def run(*arguments: str, dsn: str | None = None) -> subprocess.CompletedProcess[str]:
    env = ENV if dsn is None else {**ENV, "SYNK_DATABASE_URL": dsn}
    return subprocess.run(
        [sys.executable, "-m", "synk", *arguments],
        env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", [(), ("jobs",), ("start",), ("demo",), ("migrate",)])
def test_help_is_given_without_a_database_driver(command: tuple[str, ...]) -> None:
    script = f"{LINE}sys.argv[1:] = {[*command, '--help']!r}\ntry: synk.cli.main()\n"
    script += "finally: print('psycopg' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_a_list_of_jobs_loads_what_it_takes_and_no_more(dsn: str) -> None:
    script = f"{LINE}sys.argv[1:] = ['jobs', '--json', '--storage', {dsn!r}]\n"
    script += "try: synk.cli.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=False
    )
    loaded = set(done.stderr.split())
    ours = {name for name in loaded if name.partition(".")[0] == "synk"}

    assert done.stdout == "[]\n"
    for needless in ("client", "registry", "runtime", "telemetry", "show", "cli.start", "cli.top"):
        assert f"synk.{needless}" not in ours
    assert ours.isdisjoint({"synk.storage.embedded", "synk.storage.migrate"})
    assert loaded.isdisjoint({"rich", "psutil", "multiprocessing"})
    assert len(ours) <= 64


def test_a_producer_loads_no_supervisor() -> None:
    script = "import sys, synk; synk.Client, synk.PostgresStorage; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=False
    )
    loaded = set(done.stdout.split())

    assert "synk.client" in loaded
    assert loaded.isdisjoint({"synk.runtime.supervisor", "synk.core", "psutil"})


def test_no_database_at_all_is_one_line_with_the_ways_out() -> None:
    done = run("jobs")

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    for way in ("SYNK_DATABASE_URL", "--storage DSN", "--storage embedded"):
        assert way in done.stderr


@pytest.mark.parametrize("job_id", ["0", "-1", "99999999999999999999", "1.5", "x"])
@pytest.mark.parametrize("verb", ["job", "cancel"])
def test_what_is_no_id_is_a_wrong_use(verb: str, job_id: str, dsn: str) -> None:
    done = run(verb, "--", job_id, dsn=dsn)

    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_job_that_is_not_there_is_one_line(dsn: str) -> None:
    done = run("job", "4242", dsn=dsn)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "synk: there is no job 4242\n"


def test_a_later_id_is_changed_although_an_earlier_one_was_refused(dsn: str) -> None:
    with make_client(dsn) as client:
        first, second = client.insert_many([("a", handlers.Noop()), ("b", handlers.Noop())])
        client.cancel(first)

        done = run("cancel", str(first), "777", str(second), dsn=dsn)

        assert done.returncode == 1
        assert done.stdout.splitlines() == [
            f"job {first}: unchanged: it is cancelled",
            "job 777: there is no such job",
            f"job {second}: cancelled",
        ]


def test_a_running_job_is_killed_by_cancel_and_kept_by_delete(dsn: str) -> None:
    with supervised(dsn, processes=1) as client:
        job_id = client.insert(
            "x", handlers.Misbehave("long_sleep"), synk.InsertOptions(max_retries=0)
        )
        wait_until(lambda: is_running(client, job_id), what="the job to run")

        deleted = run("delete", str(job_id), dsn=dsn)
        cancelled = run("cancel", str(job_id), dsn=dsn)
        row = ended(client, job_id)

    assert (deleted.returncode, deleted.stdout) == (1, f"job {job_id}: unchanged: it is running\n")
    assert cancelled.returncode == 0
    assert "its supervisor was told" in cancelled.stdout
    assert row.cancel_reason is synk.CancelReason.REQUESTED


def test_x14_names_are_shown_as_they_are_whatever_they_look_like(dsn: str) -> None:
    name = "[bold red]x[/nonsense] {} %s \\"
    with make_client(dsn) as client:
        job_id = client.insert(name, handlers.Typed(1, ["[/]", "\x1b[31m", "\x9b"]))

    listed = run("jobs", dsn=dsn)
    shown = run("job", str(job_id), dsn=dsn)

    for done in (listed, shown):
        assert done.returncode == 0, done.stderr
        assert name in done.stdout
        assert "\x1b" not in done.stdout
        assert "\x9b" not in done.stdout


def test_large_args_are_in_no_list_and_whole_in_the_json_of_their_job(dsn: str) -> None:
    tags = ["t" * 5000]
    with make_client(dsn) as client:
        job_id = client.insert("x", handlers.Typed(1, tags))

    table = run("jobs", dsn=dsn)
    listed = json.loads(run("jobs", "--json", dsn=dsn).stdout)
    whole = json.loads(run("job", str(job_id), "--json", dsn=dsn).stdout)

    assert max(map(len, table.stdout.splitlines())) < 400
    assert "args" not in listed[0]
    assert whole["args"]["tags"] == tags


def test_a_reader_that_has_seen_enough_is_no_error(dsn: str) -> None:
    with make_client(dsn) as client:
        client.insert_many([("x", handlers.Typed(1, ["t" * 900])) for _ in range(300)])
    command = [sys.executable, "-m", "synk", "jobs", "--json", "--limit", "300"]
    with subprocess.Popen(
        command, env={**ENV, "SYNK_DATABASE_URL": dsn}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        assert "Traceback" not in process.stderr.read()


def test_another_schema_is_migrated_and_used(empty_dsn: str) -> None:
    made = run("migrate", "--schema", "elsewhere", dsn=empty_dsn)

    assert made.returncode == 0, made.stderr
    assert run("jobs", "--schema", "elsewhere", dsn=empty_dsn).stdout == "no jobs\n"
    assert run("jobs", dsn=empty_dsn).returncode == 1


APP = """
import synk
from support.commands import ENV
from support.jobs import handlers
client = synk.Client(storage=synk.PostgresStorage(), workers=handlers.WORKERS)
"""


def test_start_serves_a_queue_that_the_client_does_not_know(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "synk", "start", "app:client", "--processes", "1"]
    with (
        make_client(dsn) as client,
        subprocess.Popen(
            [*command, "--queue", "extra=2", "--queue", "more", "--log-level", "warning"],
            cwd=tmp_path, env={**ENV, "SYNK_DATABASE_URL": dsn}, stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        try:
            ids = [
                client.insert("x", handlers.Noop(), synk.InsertOptions(queue=queue))
                for queue in ("extra", "more")
            ]
            rows = [ended(client, job_id) for job_id in ids]
        finally:
            process.send_signal(signal.SIGINT)
            _, log = process.communicate(timeout=DEADLINE_S)

    assert [row.state for row in rows] == [synk.JobState.COMPLETED] * 2
    assert (process.returncode, log) == (0, "")


@pytest.mark.parametrize("queue", ["a=0", "a=99999", "a=x", "=3", "a=-1", "a="])
def test_a_queue_option_that_makes_no_sense_is_one_line(
    queue: str, dsn: str, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [sys.executable, "-m", "synk", "start", "app:client", "--queue", queue],
        cwd=tmp_path, env={**ENV, "SYNK_DATABASE_URL": dsn}, capture_output=True, text=True,
        timeout=DEADLINE_S, check=False,
    )  # fmt: skip

    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
