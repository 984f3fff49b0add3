"""P6: arguments on their way through JSON and PostgreSQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from support.jobs.typed import Everything, everything
from support.servers import Server
from synk.arguments import encode_args
from synk.registry import Registry
from synk.storage.postgres import PostgresStorage
from synk.testing.making import claim, new_job

DECODE = Registry([everything]).handlers["everything"].decode
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
WHOLE = st.integers(-(2**63), 2**63 - 1)
JSON: SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | WHOLE | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
ARGUMENTS = st.builds(
    Everything,
    number=st.integers(-(10**100), 10**100),
    ratio=st.floats(allow_nan=False, allow_infinity=False),
    text=TEXT,
    time=st.datetimes(timezones=st.just(dt.timezone.utc)),
    span=st.timedeltas(dt.timedelta(days=-9999), dt.timedelta(days=9999)),
    money=st.decimals(allow_nan=False, allow_infinity=False),
    raw=st.binary(max_size=50),
    name=st.uuids(),
    pair=st.tuples(WHOLE, TEXT),
    words=st.frozensets(TEXT, max_size=3),
    by_number=st.dictionaries(WHOLE, TEXT, max_size=3),
    anything=JSON,
)


@pytest.fixture(scope="module")
def kept(server: Server) -> Iterator[PostgresStorage]:
    with server.database() as dsn:
        storage = PostgresStorage(dsn)
        yield storage
        storage.close()


@settings(max_examples=60, deadline=None)
@given(args=ARGUMENTS)
def test_p6_arguments_come_back_as_they_were_by_their_types(
    kept: PostgresStorage, args: Everything
) -> None:
    kind, text = encode_args(args)
    kept.insert([new_job(kind=kind, args=text)])

    (job,) = claim(kept, kinds=[kind])

    assert DECODE(job.args) == args
