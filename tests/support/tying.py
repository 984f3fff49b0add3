"""Jobs that wait for each other: making them, and checking what the table keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from synk.testing.making import OWNER

if TYPE_CHECKING:
    from uuid import UUID

    from synk.claim import ClaimedJob


def dependents(
    connection: psycopg.Connection, *depends_on: int, count: int, kind: str = "kind"
) -> list[int]:
    rows = connection.execute(
        "INSERT INTO synk.job (kind, name, args, depends_on) SELECT %s, 'x', '{}', %s::bigint[]"
        " FROM generate_series(1, %s) RETURNING id",
        (kind, list(depends_on), count),
    ).fetchall()
    return [job_id for (job_id,) in rows]


def value(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row
    return row[0]


def ties(connection: psycopg.Connection) -> int:
    return value(connection, "SELECT count(*) FROM synk.tie")


def check(connection: psycopg.Connection) -> None:
    """Each job waits for those of its dependencies that are not over, and counts them."""
    wrong = connection.execute(
        "SELECT j.id, j.state, j.unmet, t.ids, d.ids FROM synk.job AS j"
        " CROSS JOIN LATERAL (SELECT ARRAY(SELECT t.dependency FROM synk.tie AS t"
        " WHERE t.dependent = j.id ORDER BY t.dependency) AS ids) AS t"
        " CROSS JOIN LATERAL (SELECT coalesce(array_agg(DISTINCT p.id ORDER BY p.id), '{}') AS ids"
        " FROM synk.job AS p WHERE p.id = ANY (j.depends_on) AND p.state <> 'completed') AS d"
        " WHERE j.unmet <> 0 AND (j.state <> 'pending' OR t.ids <> d.ids OR j.unmet <>"
        " cardinality(d.ids)) OR j.unmet = 0 AND j.state = 'pending' AND NOT j.held"
    ).fetchall()
    assert wrong == []
    assert value(connection, "SELECT count(*) FROM synk.settling") == 0


def complete(connection: psycopg.Connection, job: ClaimedJob, owner: UUID = OWNER) -> None:
    row = connection.execute(
        "SELECT synk.complete(%s, %s, %s, %s, NULL)", (job.id, job.attempt, owner, job.claim_seq)
    ).fetchone()
    assert row == (True,)
