"""``synk periodic``, as a process of its own."""

from __future__ import annotations

import json

import pytest

import synk
from support.commands import run
from support.jobs import ticking
from support.supervising import ended, make_client, supervised

ADD = ("periodic", "add", "tidy", "tidy_up")


def test_what_is_added_by_hand_is_listed_paused_resumed_run_and_removed(dsn: str) -> None:
    empty = run("periodic", dsn=dsn)
    added = run(*ADD, '{"days": 7}', "--cron", "30 2 * * *", "--tz", "Europe/Berlin", dsn=dsn)
    same = run(*ADD, '{"days": 7}', "--cron", "30 2 * * *", "--tz", "Europe/Berlin", dsn=dsn)
    paused = run("periodic", "pause", "tidy", dsn=dsn)
    twice = run("periodic", "pause", "tidy", dsn=dsn)
    table = run("periodic", dsn=dsn)
    resumed = run("periodic", "resume", "tidy", dsn=dsn)
    ran = run("periodic", "run", "tidy", dsn=dsn)
    listed = run("periodic", "--json", dsn=dsn)
    removed = run("periodic", "remove", "tidy", dsn=dsn)

    assert "no periodic jobs" in empty.stdout
    assert "added" in added.stdout, added.stderr
    assert "says the same" in same.stdout
    assert ("paused" in paused.stdout, "is paused already" in twice.stdout) == (True, True)
    assert all(word in table.stdout for word in ("tidy", "30 2 * * *", "Europe/Berlin", "paused"))
    assert "resumed" in resumed.stdout
    (record,) = json.loads(listed.stdout)
    assert f"job {record['last_job_id']}" in ran.stdout
    assert (record["kind"], record["args"], record["runs"]) == ("tidy_up", {"days": 7}, 1)
    assert (record["paused_at"], record["undeclared"]) == (None, False)
    assert "removed" in removed.stdout


def test_the_job_of_what_was_added_is_read_by_its_worker(dsn: str) -> None:
    added = run(
        "periodic", "add", "often", "note tick", '{"log": "/dev/null"}', "--every", "1h",
        "--queue", "default", "--priority", "1", "--max-retries", "0", "--jitter", "1m",
        "--max-late", "2h", "--missed", "all", "--overlap", "allow", dsn=dsn,
    )  # fmt: skip
    assert "added" in added.stdout, added.stderr

    with supervised(dsn, workers=ticking.WORKERS) as client:
        job_id = client.periodic.run_now("often")
        assert job_id is not None
        job = ended(client, job_id)

    assert job.state is synk.JobState.COMPLETED
    assert (job.priority, job.max_attempts) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "give one of --cron and --every"),
        (("--cron", "@daily", "--every", "1h"), "give one of --cron and --every"),
        (("--cron", "0 0 30 2 *"), "never comes"),
        (("--cron", "0 30 2 * * *"), "has 6 fields"),
        (("--cron", "@daily", "--tz", "Berlin"), "is no time zone"),
        (("--every", "1 fortnight"), "must be a duration"),
        (("--every", "1h", "--missed", "all"), "say overlap='allow' too"),
        (("[1]", "--every", "1h"), "must be a JSON object"),
        (("{", "--every", "1h"), "is not JSON"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    dsn: str, arguments: tuple[str, ...], problem: str
) -> None:
    done = run(*ADD, *arguments, dsn=dsn)

    assert (done.returncode, done.stdout) == (2, "")
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
    with make_client(dsn) as client:
        assert client.periodic.list() == []


def test_what_is_not_there_is_told(dsn: str) -> None:
    for verb in ("pause", "resume", "run", "remove"):
        done = run("periodic", verb, "nothing", dsn=dsn)
        assert (done.returncode, done.stdout) == (1, "periodic job nothing: there is no such\n")
