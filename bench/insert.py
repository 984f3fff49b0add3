"""How many jobs a second a producer stores, beside bare statements into the same table.

    python bench/insert.py [--full] [--calls N] [--rows N] [--rounds N] [--json FILE]

One producer on one connection: `insert` one by one, `insert_many` with 1, 100 and 10,000 rows a
call, these with options, with a dependency (all on one job, or each on another) and with an
idempotency key each, and the verbs of `AsyncClient`, also ten at a time. Each measurement finds an
empty table, but for the jobs that others depend on.

The floor is a bare INSERT of as many rows, prepared, with its arguments made beforehand and nothing
asked back. COPY is the fastest way into the table: it gives no ids back, and takes no part in the
producer's checks.

`AsyncClient` and `Client` differ by less than a machine does from one moment to the next, so they
take turns: "awaited / blocking" is the ratio of their rates. Its floor is that of the bare INSERT,
which is what psycopg's asyncio costs.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, LiteralString, Self, TypeAlias, cast

import psycopg

import synk
from figures import FLOOR, SYNK, Results, interleaved
from jobs import Noop
from options import Size, parse, parser_of
from server import embedded_server, fresh_schema, server_facts
from showing import publish

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from figures import Contestants

SIZES = {
    "calls": Size(400, 5000, "calls of one row, for each measurement"),
    "rows": Size(20_000, 200_000, "rows in larger calls, for each measurement"),
    "rounds": Size(3, 7, "measurements of each"),
}
BATCHES = (1, 100, 10_000)
BULK = "10,000 rows a call: rows/s"
TARGETS = {BULK: 150_000}
AT_A_TIME = 10
TURNS = 20

Insert: TypeAlias = "Callable[[int], object]"
"""Inserts that many rows; may be a coroutine function."""

INSERT = """
    INSERT INTO synk.job (name, kind, args)
    SELECT 'noop', 'noop', args::jsonb FROM unnest(%s::text[]) AS g (args)
"""
ONE = "INSERT INTO synk.job (name, kind, args) VALUES ('noop', 'noop', %s::jsonb)"
COPY = "COPY synk.job (name, kind, args) FROM STDIN"


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        fresh_schema(dsn)
        with Producer(dsn) as producer:
            interleaved(contestants(producer, options.calls, options.rows), options.rounds, results)
    publish(options, "insert", "rows stored by one producer", results, TARGETS)


def contestants(producer: Producer, calls: int, rows: int) -> Contestants:
    """Those of a name give all its quantities in one measurement."""

    def times_of(batch: int) -> int:
        return calls if batch == 1 else rows // batch

    def timed(batch: int, insert: Insert) -> Mapping[str, float]:
        times = times_of(batch)
        if times == 0:
            return {}
        producer.empty(parents=times * batch if insert == producer.with_dependency_each else 1)
        return {quantity_of(batch): times * batch / producer.call(insert, batch, times)}

    def each(insert: Insert, batches: tuple[int, ...] = BATCHES) -> Any:
        return lambda: {
            quantity: rate for batch in batches for quantity, rate in timed(batch, insert).items()
        }

    def both(blocking: Insert, awaited: Insert) -> Callable[[], Mapping[str, float]]:
        return lambda: (
            each(blocking)()
            | {
                f"{batch:,} a call: awaited / blocking": producer.in_turns(
                    blocking, awaited, batch, times
                )
                for batch in BATCHES
                if (times := times_of(batch))
            }
        )

    return {
        SYNK: both(producer.insert_many, producer.async_many),
        "insert()": each(producer.insert, (1,)),
        "with options": each(producer.with_options),
        "with a dependency": each(producer.with_dependency),
        "with a dependency each": each(producer.with_dependency_each),
        "with a unique key": each(producer.with_key),
        "AsyncClient": each(producer.async_many),
        f"AsyncClient, {AT_A_TIME} at a time": lambda: {quantity_of(1): producer.async_rate(calls)},
        "COPY": each(producer.copy),
        FLOOR: both(producer.bare, producer.bare_awaited),
    }


def quantity_of(batch: int) -> str:
    return BULK if batch == 10_000 else f"{batch} rows a call: rows/s"


class Producer:
    """All the ways to insert, on one database."""

    def __init__(self, dsn: str) -> None:
        self._client = synk.Client(storage=synk.PostgresStorage(dsn))
        self._async_client = synk.AsyncClient(storage=synk.PostgresStorage(dsn))
        self._loop = asyncio.new_event_loop()
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._async_connection = self._loop.run_until_complete(
            psycopg.AsyncConnection.connect(dsn, autocommit=True)
        )
        self._parents: list[int] = []
        self._keys = self._new_keys()
        self._texts = {batch: args_texts(batch) for batch in BATCHES}

    def __enter__(self) -> Self:
        self.empty()
        self._loop.run_until_complete(self._async_client.insert("warm up", Noop()))
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._async_client.close())
        self._loop.run_until_complete(self._async_connection.close())
        self._loop.close()
        self._client.close()
        self._connection.close()

    def empty(self, parents: int = 1) -> None:
        self._connection.execute("TRUNCATE synk.job")
        self._parents = self._client.insert_many([("parent", Noop())] * parents)

    def call(self, insert: Insert, batch: int, times: int) -> float:
        """Inserts *batch* rows *times* times; what is to be awaited, in one coroutine.

        Returns:
            The seconds that it took.
        """

        async def awaited() -> None:
            for _ in range(times):
                await cast("Awaitable[object]", insert(batch))

        began = time.perf_counter()
        if inspect.iscoroutinefunction(insert):
            self._loop.run_until_complete(awaited())
        else:
            for _ in range(times):
                insert(batch)
        return time.perf_counter() - began

    def in_turns(self, blocking: Insert, awaited: Insert, batch: int, times: int) -> float:
        """The rate of *awaited* as a share of that of *blocking*; about *times* calls of each."""
        self.empty()
        both = (blocking, awaited)
        for insert in both:  # connects
            self.call(insert, batch, 1)
        turns = min(TURNS, times)
        seconds = dict.fromkeys(both, 0.0)
        for turn in range(turns):
            for insert in both[:: -1 if turn % 2 else 1]:
                seconds[insert] += self.call(insert, batch, times // turns)
        return seconds[blocking] / seconds[awaited]

    def insert(self, _count: int) -> None:
        self._client.insert("noop", Noop(1))

    def insert_many(self, count: int) -> None:
        self._client.insert_many(("noop", Noop(n)) for n in range(count))

    def with_options(self, count: int) -> None:
        options = synk.InsertOptions(
            priority=synk.Priority.HIGH,
            queue="other",
            max_retries=3,
            scheduled_at=datetime.now(UTC) + timedelta(hours=1),
        )
        self._client.insert_many(("noop", Noop(n), options) for n in range(count))

    def with_dependency(self, count: int) -> None:
        options = synk.InsertOptions(depends_on=(self._parents[0],))
        self._client.insert_many(("noop", Noop(n), options) for n in range(count))

    def with_dependency_each(self, count: int) -> None:
        self._client.insert_many(
            ("noop", Noop(n), synk.InsertOptions(depends_on=(self._parents.pop(),)))
            for n in range(count)
        )

    def with_key(self, count: int) -> None:
        self._client.insert_many(
            ("noop", Noop(n), synk.InsertOptions(idempotency_key=next(self._keys)))
            for n in range(count)
        )

    async def async_many(self, count: int) -> None:
        await self._async_client.insert_many(("noop", Noop(n)) for n in range(count))

    def async_rate(self, calls: int) -> float:
        async def some() -> None:
            for _ in range(calls // AT_A_TIME):
                await self._async_client.insert("noop", Noop(1))

        async def all_of_them() -> None:
            await asyncio.gather(*(some() for _ in range(AT_A_TIME)))

        self.empty()
        began = time.perf_counter()
        self._loop.run_until_complete(all_of_them())
        return calls // AT_A_TIME * AT_A_TIME / (time.perf_counter() - began)

    def copy(self, count: int) -> None:
        with self._connection.cursor() as cursor, cursor.copy(COPY) as copy:
            copy.write(self._texts[count][1])

    def bare(self, count: int) -> None:
        self._connection.execute(*self._bare(count))

    async def bare_awaited(self, count: int) -> None:
        await self._async_connection.execute(*self._bare(count))

    def _bare(self, count: int) -> tuple[LiteralString, tuple[str]]:
        return (ONE, ('{"n": 1}',)) if count == 1 else (INSERT, (self._texts[count][0],))

    def _new_keys(self) -> Iterator[str]:
        number = 0
        while True:
            number += 1
            yield f"key {number}"


def args_texts(count: int) -> tuple[str, str]:
    """The arguments of *count* jobs as an array, and the jobs as COPY takes them."""
    array = "{" + ",".join(f'"{{\\"n\\": {n}}}"' for n in range(count)) + "}"
    rows = "".join(f'noop\tnoop\t{{"n": {n}}}\n' for n in range(count))
    return array, rows


if __name__ == "__main__":
    main()
