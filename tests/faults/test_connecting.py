"""D6: what is asked of the servers that a DSN names."""

from __future__ import annotations

from typing import Any

import pytest

from synk.storage.sessions import connect_options


@pytest.mark.parametrize(
    ("dsn", "wanted"),
    [
        ("host=a dbname=d", None),
        ("host=a,b dbname=d", "read-write"),
        ("postgresql://u@a:1,b:2/d", "read-write"),
        ("postgresql://u@a:1,b:2/d?target_session_attrs=primary", None),
    ],
)
def test_d6_of_several_hosts_the_one_is_used_that_takes_writes(
    dsn: str, wanted: str | None
) -> None:
    assert connect_options(dsn).get("target_session_attrs") == wanted


def test_d2_the_bounds_of_a_connection_are_the_dsns_own_where_it_has_some() -> None:
    given: dict[str, Any] = connect_options("host=a tcp_user_timeout=7 keepalives_idle=3")

    assert not {"tcp_user_timeout", "keepalives_idle"} & set(given)
    assert (given["connect_timeout"], given["keepalives_count"]) == (10, 3)
