"""Many jobs in one insert: how they are cut into statements, and put together again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from synk.storage.inserting import INSERT_JOBS, UNDER_WAY, chunks_of
from synk.testing.making import new_job

if TYPE_CHECKING:
    from synk.storage.postgres import PostgresStorage

MIB = 1024 * 1024


def test_jobs_are_cut_where_they_are_too_many_for_one_statement() -> None:
    jobs = [new_job() for _ in range(2 * INSERT_JOBS + 1)]

    chunks = chunks_of(jobs)

    assert [len(chunk) for chunk in chunks] == [INSERT_JOBS, INSERT_JOBS, 1]
    assert [job for chunk in chunks for job in chunk] == jobs
    assert chunks_of([]) == []


def test_jobs_are_cut_where_they_are_too_heavy_for_one_statement() -> None:
    heavy = new_job(args=f'{{"a": "{"x" * MIB}"}}')
    jobs = [heavy] * 20 + [new_job(args=f'{{"a": {number}}}') for number in range(30)]

    chunks = chunks_of(jobs)

    assert all(sum(len(job.args) for job in chunk) <= 16 * MIB for chunk in chunks)
    assert 2 <= len(chunks) <= 4
    assert [job for chunk in chunks for job in chunk] == jobs
    far_too_heavy = new_job(args=f'{{"a": "{"x" * 17 * MIB}"}}')
    assert chunks_of([far_too_heavy] * 2) == [[far_too_heavy], [far_too_heavy]]


def test_ids_come_in_the_order_of_the_jobs_over_all_statements(storage: PostgresStorage) -> None:
    count = INSERT_JOBS * (2 * UNDER_WAY + 1) + 1

    ids = storage.insert([new_job(args=f'{{"n": {number}}}') for number in range(count)])

    assert len(ids) == count
    places = range(0, count, INSERT_JOBS - 1)
    rows = storage.get([ids[place] for place in places])
    assert {row.id: row.args for row in rows} == {ids[place]: {"n": place} for place in places}
