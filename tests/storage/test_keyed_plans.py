"""What a claim of keyed jobs reads does not grow with what waits."""

from __future__ import annotations

import psycopg
import pytest

from synk.limit import Cap
from synk.storage.sessions import connect_options
from synk.storage.statements import Statements
from synk.testing.making import OWNER

LOAD = """
INSERT INTO synk.job (kind, name, args, limit_key)
SELECT 'k', 'x', '{}', CASE WHEN n <= 3 THEN 'tenant:small' ELSE 'tenant:huge' END
FROM generate_series(1, 100000) AS n
"""
CLIENT = """
INSERT INTO synk.client (id, host, pid, version, processes, queues, lease_until)
VALUES (%s, 'h', 1, 'v', 1, '{}', now() + interval '1 h')
"""


@pytest.mark.parametrize("mode", ["custom", "generic"])
def test_a_small_tenant_is_claimed_beside_a_huge_one_at_the_cost_of_some_pages(
    dsn: str, mode: str
) -> None:
    claim = Statements().claim_keyed(
        "default", 4, kinds=["k"], owner=OWNER, claim_seq=1, caps={"tenant": Cap(running=2)}
    )
    with psycopg.connect(dsn, autocommit=True, **connect_options(dsn)) as connection:
        connection.execute(LOAD)
        connection.execute(CLIENT, (OWNER,))
        connection.execute(f"SET plan_cache_mode = force_{mode}_plan".encode())
        text = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + claim.text.encode()
        row = connection.execute(text, claim.parameters, prepare=True).fetchone()
        keys = connection.execute(
            "SELECT limit_key, count(*) FROM synk.job WHERE state = 'running' GROUP BY 1 ORDER BY 1"
        ).fetchall()

    assert row is not None
    plan = row[0][0]["Plan"]
    assert keys == [("tenant:huge", 2), ("tenant:small", 2)]
    # All that wait are on more than a thousand pages.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 300
