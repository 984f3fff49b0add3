"""The hot statements keep their plans right after a bulk load, with statistics and without."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from support.servers import Server
from synk.claim import Outcome
from synk.row import CancelReason, JobState
from synk.runtime.supervisor.ack_loop import ACK_JOBS
from synk.storage.sessions import connect_options
from synk.storage.statement import Statement
from synk.storage.statements import Statements

ROWS = 1_000_000
OWNER = uuid.UUID(int=7)
STATEMENTS = Statements()

LOAD = f"""
INSERT INTO synk.job (kind, name, queue, priority, state, attempt, owner, claim_seq, scheduled_at,
                      finalized_at, cancel_reason, unmet, depends_on, has_dependents)
SELECT 'k', 'x', 'default', 1 + n % 4, state, CASE WHEN state = 'running' THEN 1 ELSE 0 END,
       CASE WHEN state = 'running' THEN '{{owner}}'::uuid END,
       CASE WHEN state = 'running' THEN 1 END,
       now() + CASE WHEN n % 100 BETWEEN 80 AND 83 THEN 1 ELSE -1 END * interval '1 day',
       CASE WHEN state IN ('completed', 'cancelled') THEN now() - n * interval '1 s' END,
       CASE WHEN state = 'cancelled' THEN 'failed'::synk.cancel_reason END,
       CASE WHEN state = 'pending' THEN 1 ELSE 0 END,
       CASE WHEN state = 'pending' THEN ARRAY[n - 90] ELSE '{{{{}}}}' END,
       state = 'running'
FROM (
    SELECT n, CAST(CASE WHEN n % 100 < 70 THEN 'completed' WHEN n % 100 < 80 THEN 'cancelled'
                        WHEN n % 100 < 85 THEN 'scheduled' WHEN n % 100 < 90 THEN 'pending'
                        WHEN n % 1000 < 998 THEN 'available' ELSE 'running' END
                   AS synk.job_state) AS state
    FROM generate_series(1, {ROWS}) AS n
) AS numbered;
INSERT INTO synk.tie (dependency, dependent)
SELECT j.depends_on[1], j.id FROM synk.job AS j WHERE j.state = 'pending'
"""


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection]:
    """A connection as synk makes its own, to a table whose statistics say that it is empty.

    It has its statements planned already, from when there was nothing.
    """
    with (
        server.database() as dsn,
        psycopg.connect(dsn, autocommit=True, **connect_options(dsn)) as connection,
    ):
        connection.execute("ANALYZE synk.job")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        for make in MEASURED.values():
            run(connection, make(connection))
        end_all(connection, put_a_tree(connection))
        connection.execute("DELETE FROM synk.job")
        with psycopg.connect(dsn) as loader:
            # No change of the table, after which everything is planned anew.
            loader.execute("SET session_replication_role = replica")
            loader.execute(LOAD.format(owner=OWNER).encode())
        yield connection


@pytest.fixture(scope="module", params=["fresh", "analyzed"])
def loaded(request: pytest.FixtureRequest, connection: psycopg.Connection) -> psycopg.Connection:
    if request.param == "analyzed":
        connection.execute("ANALYZE synk.job")
    return connection


def plan_of(connection: psycopg.Connection, statement, mode: str) -> str:
    """The plan under *mode*, of the statement as psycopg sends it."""
    connection.execute(f"SET plan_cache_mode = force_{mode}_plan".encode())
    explained = connection.execute(
        b"EXPLAIN (FORMAT JSON) " + statement.text.encode(), statement.parameters, prepare=True
    ).fetchone()
    assert explained is not None
    return json.dumps(explained[0])


def indexes(plan: str) -> set[str]:
    return set(re.findall(r'"Index Name": "(\w+)"', plan))


@pytest.mark.parametrize("mode", ["custom", "generic"])
def test_a_claim_reads_the_head_of_its_index(loaded: psycopg.Connection, mode: str) -> None:
    statement = STATEMENTS.claim("default", 500, kinds=["k"], owner=OWNER, claim_seq=1)

    plan = plan_of(loaded, statement, mode)

    assert indexes(plan) == {"job_claim_plain", "client_pkey"}
    assert '"Node Type": "Tid Scan"' in plan
    assert '"Node Type": "Sort"' not in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("count", [1, 100, ACK_JOBS])
@pytest.mark.parametrize("form", ["ack", "ack_plain", "account"])
def test_an_acknowledgement_goes_by_the_primary_key(
    loaded: psycopg.Connection, mode: str, count: int, form: str
) -> None:
    outcomes = [Outcome(n, 1, 1) for n in range(1, count + 1)]
    statement = getattr(STATEMENTS, form)(OWNER, outcomes)

    plan = plan_of(loaded, statement, mode)

    assert indexes(plan) - {"tie_pkey"} == {"job_pkey"}
    assert '"Seq Scan"' not in plan


def test_staging_reads_only_what_is_due(loaded: psycopg.Connection) -> None:
    plan = plan_of(loaded, STATEMENTS.stage(1000), "custom")

    assert "job_due" in indexes(plan)
    assert '"Seq Scan"' not in plan


@pytest.mark.parametrize("mode", ["custom", "generic"])
def test_held_jobs_are_listed_by_an_index_that_no_other_job_is_in(
    loaded: psycopg.Connection, mode: str
) -> None:
    filters = dict.fromkeys(("queue", "kind", "reason", "since"))
    statement = STATEMENTS.jobs(state=JobState.PENDING, limit=50, **filters)

    plan = plan_of(loaded, statement, mode)
    row = loaded.execute("SELECT pg_relation_size('synk.job_held')").fetchone()

    assert "job_held" in indexes(plan)
    # The page that describes it, and nothing more.
    assert row == (8192,)


def test_cancel_requests_are_found_by_their_index(loaded: psycopg.Connection) -> None:
    plan = plan_of(loaded, STATEMENTS.cancel_requests(OWNER), "generic")

    assert indexes(plan) <= {"job_cancel_requested", "job_owner"}
    assert indexes(plan)


@pytest.mark.parametrize("mode", ["custom", "generic"])
def test_kinds_that_nobody_knows_are_looked_for_at_the_front_of_each_queue(
    loaded: psycopg.Connection, mode: str
) -> None:
    plan = plan_of(loaded, STATEMENTS.unknown_kinds(["default"]), mode)

    assert indexes(plan) == {"job_claim_plain", "job_claim_keyed"}
    assert len(re.findall(r'"Relation Name": "job"', plan)) == 2
    assert '"Node Type": "Bitmap' not in plan


# -- what they cost -------------------------------------------------------------------------------

COUNT = 100
"""Jobs a statement: at a small share of the table's pages a walk over it cannot hide."""

EACH = 40
"""Pages that one job may cost: its row, and its entries in the indexes that it is in or gets in."""


def outcomes(connection: psycopg.Connection) -> list[Outcome]:
    rows = connection.execute(
        "SELECT j.id FROM synk.job AS j WHERE j.state = 'running' LIMIT %s", (COUNT,)
    ).fetchall()
    return [Outcome(job_id, 1, 1) for (job_id,) in rows]


MEASURED: dict[str, Callable[[psycopg.Connection], Statement]] = {
    "claim": lambda _: STATEMENTS.claim("default", COUNT, kinds=["k"], owner=OWNER, claim_seq=1),
    "ack": lambda connection: STATEMENTS.ack(OWNER, outcomes(connection)),
    "rescue": lambda _: STATEMENTS.rescue([OWNER], COUNT),
    "cleaner": lambda _: STATEMENTS.cleaner(JobState.COMPLETED, timedelta(0), limit=COUNT),
    "stage": lambda _: STATEMENTS.stage(COUNT),
}


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("name", MEASURED)
def test_d10_d11_a_statement_reads_a_few_pages_for_each_of_its_jobs_and_no_more(
    loaded: psycopg.Connection, name: str, mode: str
) -> None:
    with loaded.transaction(force_rollback=True):
        statement = MEASURED[name](loaded)
        loaded.execute(
            "INSERT INTO synk.client (id, host, pid, version, processes, queues, lease_until)"
            " VALUES (%s, 'h', 1, 'v', 1, '{}', now() + interval '1 h')",
            (OWNER,),
        )
        plan, pages = measured(loaded, statement, mode)

    assert ("Seq Scan", "job") not in ways(plan)
    assert COUNT <= pages <= EACH * COUNT


def ways(plan: dict[str, Any]) -> set[tuple[str, str]]:
    """The ways in which a plan reads tables."""
    found = {(plan["Node Type"], plan.get("Relation Name", ""))}
    return found.union(*(ways(part) for part in plan.get("Plans", [])))


def measured(
    connection: psycopg.Connection, statement: Statement, mode: str
) -> tuple[dict[str, Any], int]:
    """Runs it; returns its plan, and how many pages it has looked at."""
    connection.execute(f"SET LOCAL plan_cache_mode = force_{mode}_plan".encode())
    text = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement.text.encode()
    row = connection.execute(text, statement.parameters, prepare=True).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return plan, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


def run(connection: psycopg.Connection, statement: Statement) -> None:
    connection.execute(statement.text.encode(), statement.parameters, prepare=True)


def put_a_tree(connection: psycopg.Connection) -> list[int]:
    """Puts running jobs into the table, each of which another one waits for."""
    rows = connection.execute(
        "INSERT INTO synk.job (kind, name, state, attempt, owner, claim_seq, has_dependents)"
        " SELECT 'k', 'x', 'running', 1, %s, 1, true FROM generate_series(1, 20) RETURNING id",
        (OWNER,),
    ).fetchall()
    ids = [job_id for (job_id,) in rows]
    connection.execute(
        "INSERT INTO synk.job (kind, name, depends_on) SELECT 'k', 'x', ARRAY[id]"
        " FROM unnest(%s::bigint[]) AS id",
        (ids,),
    )
    return ids


def end_all(connection: psycopg.Connection, ids: list[int]) -> None:
    """Half of them complete, and half of them take their dependents along."""
    middle = len(ids) // 2
    run(connection, STATEMENTS.ack(OWNER, [Outcome(job_id, 1, 1) for job_id in ids[:middle]]))
    cancelled = [
        Outcome(job_id, 1, 1, JobState.CANCELLED, cancel_reason=CancelReason.FAILED)
        for job_id in ids[middle:]
    ]
    run(connection, STATEMENTS.ack(OWNER, cancelled))
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


def test_d11_what_was_planned_when_the_table_was_empty_reads_no_table_from_end_to_end(
    connection: psycopg.Connection,
) -> None:
    connection.execute("SET plan_cache_mode = force_generic_plan")
    with connection.transaction(force_rollback=True):
        for make in MEASURED.values():
            run(connection, make(connection))
        end_all(connection, put_a_tree(connection))
        read = connection.execute(
            "SELECT seq_scan, seq_tup_read FROM pg_stat_xact_user_tables"
            " WHERE relid = ANY ('{synk.job, synk.tie, synk.settling}'::regclass[])"
        ).fetchall()

    assert read == [(0, 0)] * 3


def test_d11_an_insert_of_dependents_reads_what_they_depend_on_and_no_more(
    loaded: psycopg.Connection,
) -> None:
    with loaded.transaction(force_rollback=True):
        before = touched(loaded)
        ids = put_a_tree(loaded)
        loaded.execute("SET CONSTRAINTS ALL IMMEDIATE")
        after = touched(loaded)

    # Whether each is there, its lock, its mark and its state.
    assert after["rows_read"] - before["rows_read"] <= 5 * len(ids)


def test_a_job_that_waits_is_written_once(connection: psycopg.Connection) -> None:
    with connection.transaction(force_rollback=True):
        (parent,) = put_a_tree(connection)[:1]
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        before = touched(connection)
        put_dependents(connection, parent, 1000)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        after = touched(connection)

    # The parent is marked.
    assert after["rows_updated"] - before["rows_updated"] == 1


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.CANCELLED])
def test_the_end_of_a_job_with_a_thousand_dependents_is_one_update(
    connection: psycopg.Connection, state: JobState
) -> None:
    reason = CancelReason.FAILED if state is JobState.CANCELLED else None
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL track_functions = 'pl'")
        (parent,) = put_a_tree(connection)[:1]
        put_dependents(connection, parent, 1000)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        before = touched(connection)
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        run(connection, STATEMENTS.ack(OWNER, [Outcome(parent, 1, 1, state, cancel_reason=reason)]))
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        after = touched(connection)

    assert after["rows_updated"] - before["rows_updated"] == 1 + 1 + 1000
    # The end's note, its trigger, what settles, what lets go or sweeps, and what takes the ties.
    assert after["calls"] - before["calls"] == 5
    # None of them has dependents of its own: ties are not asked for each.
    assert after["rows_read"] - before["rows_read"] <= 8 * 1000


def touched(connection: psycopg.Connection) -> dict[str, int]:
    """What this transaction has done to the table, and the calls of functions that it took."""
    row = connection.execute(
        "SELECT seq_tup_read + idx_tup_fetch, n_tup_upd,"
        " (SELECT coalesce(sum(f.calls), 0) FROM pg_stat_xact_user_functions AS f)"
        " FROM pg_stat_xact_user_tables WHERE relid = 'synk.job'::regclass"
    ).fetchone()
    assert row is not None
    return dict(zip(("rows_read", "rows_updated", "calls"), row, strict=True))


def put_dependents(connection: psycopg.Connection, parent: int, count: int) -> None:
    connection.execute(
        "INSERT INTO synk.job (kind, name, depends_on) SELECT 'k', 'x', ARRAY[%s::bigint]"
        " FROM generate_series(1, %s)",
        (parent, count),
    )
