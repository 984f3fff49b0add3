"""The columns that statements answer with are the fields of the records that are made of them."""

from __future__ import annotations

import dataclasses

import psycopg

from synk.claim import ClaimedJob
from synk.row import JobRow
from synk.storage.statement import Statement
from synk.storage.statements import Statements
from synk.testing.making import OWNER

STATEMENTS = Statements()


def columns_of(dsn: str, statement: Statement) -> list[str]:
    with psycopg.connect(dsn) as connection:
        cursor = connection.execute(statement.text, statement.parameters)
        assert cursor.description is not None
        return [column.name for column in cursor.description]


def test_a_claim_answers_in_the_order_of_its_record(dsn: str) -> None:
    claim = STATEMENTS.claim("default", 1, kinds=["k"], owner=OWNER, claim_seq=1)

    columns = [*columns_of(dsn, claim), "queue", "claim_seq"]

    assert columns == list(ClaimedJob.__struct_fields__)[: len(columns)]


def test_what_runs_is_read_into_the_record_of_a_claim(dsn: str) -> None:
    claim = STATEMENTS.claim("default", 1, kinds=["k"], owner=OWNER, claim_seq=1)

    running = columns_of(dsn, STATEMENTS.running(OWNER))

    assert running == [*columns_of(dsn, claim), "queue", "claim_seq"]


def test_a_job_is_read_into_all_fields_of_its_row(dsn: str) -> None:
    columns = columns_of(dsn, STATEMENTS.get([1]))

    assert sorted(columns) == sorted(field.name for field in dataclasses.fields(JobRow))
