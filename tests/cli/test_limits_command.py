"""``synk limits`` and its verbs."""

from __future__ import annotations

import json

import pytest

import synk
from support.commands import run
from synk.limit import Cap
from synk.testing.limiting import claim_keyed, insert_for


def test_limits_are_set_listed_and_unset(storage: synk.PostgresStorage, dsn: str) -> None:
    insert_for(storage, *"aab")
    claim_keyed(storage, 1, caps={"tenant": Cap(running=1)})

    done = run("limits", "set", "tenant", "--running", "2", "--rate", "100/1m", dsn=dsn)
    of_key = run("limits", "set", "tenant", "--running", "none", "--key", "b", dsn=dsn)
    (listed,) = json.loads(run("limits", "--json", dsn=dsn).stdout)
    table = run("limits", dsn=dsn).stdout
    undone = run("limits", "unset", "tenant", dsn=dsn)
    (after,) = json.loads(run("limits", "--json", dsn=dsn).stdout)

    assert (done.stdout, of_key.stdout) == ("set tenant\n", "set tenant for b\n")
    assert undone.stdout == "unset tenant\n"
    assert (listed["running"], listed["rate"]) == (2, {"count": 100, "period": 60.0})
    a, b = listed["keys"]
    assert (a["key"], a["at_work"], a["running"], a["waiting"]) == ("tenant:a", 1, 2, 1)
    assert (b["key"], b["at_work"], b["running"], b["waiting"]) == ("tenant:b", 0, None, 1)
    assert "1 of 2" in table
    assert "0 of any" in table
    assert (after["running"], after["rate"]) == (None, None)


def test_there_may_be_no_limits(dsn: str) -> None:
    assert run("limits", dsn=dsn).stdout.startswith("no limits")
    assert json.loads(run("limits", "--json", dsn=dsn).stdout) == []


@pytest.mark.parametrize(
    "given",
    [
        ("--running", "0"),
        ("--running", "many"),
        ("--rate", "5"),
        ("--rate", "0/s"),
        ("--rate", "5/0s"),
        (),
    ],
)
def test_what_cannot_be_set_is_one_line_and_status_2(dsn: str, given: tuple[str, ...]) -> None:
    done = run("limits", "set", "tenant", *given, dsn=dsn)

    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
