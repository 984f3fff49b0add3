"""How many unique jobs a second a producer stores, beside as many that are not unique.

    python bench/unique.py [--full] [--rows N] [--rounds N] [--json FILE]

The floor is `insert_many` of the same jobs without `Unique`. The others are unique by one field of
their arguments, or by all; none of them is there before, half of them are, or all, which then wait.
Each measurement finds an empty table, but for those.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg

import synk
from figures import FLOOR, SYNK, Results, interleaved
from jobs import Noop
from options import Size, parse, parser_of
from server import embedded_server, fresh_schema, server_facts
from showing import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SIZES = {
    "rows": Size(20_000, 200_000, "rows for each measurement"),
    "rounds": Size(5, 11, "measurements of each"),
}
QUANTITY = "10,000 rows a call: rows/s"
BATCH = 10_000
BY_FIELD = synk.InsertOptions(unique=synk.Unique(by=("args.n",)))
BY_ALL = synk.InsertOptions(unique=synk.Unique())


def main() -> None:
    options = parse(parser_of(__doc__), SIZES)
    results = Results()
    with embedded_server() as dsn:
        results.facts["server"] = server_facts(dsn)
        fresh_schema(dsn)
        with (
            psycopg.connect(dsn, autocommit=True) as connection,
            synk.Client(storage=synk.PostgresStorage(dsn)) as client,
        ):
            interleaved(contestants(client, connection, options.rows), options.rounds, results)
    publish(options, "unique", "unique jobs stored by one producer", results, {})


def contestants(
    client: synk.Client, connection: psycopg.Connection, rows: int
) -> dict[str, Callable[[], Mapping[str, float]]]:
    """What is measured, by name."""

    def stored(said: synk.InsertOptions | None, there: float = 0.0) -> Mapping[str, float]:
        connection.execute("TRUNCATE synk.job")
        calls = [range(first, first + BATCH) for first in range(0, rows, BATCH)]
        for numbers in calls:
            known = numbers[: int(BATCH * there)]
            client.insert_many([("noop", Noop(n), BY_FIELD) for n in known])
        began = time.perf_counter()
        for numbers in calls:
            if said is None:
                client.insert_many([("noop", Noop(n)) for n in numbers])
            else:
                client.insert_many([("noop", Noop(n), said) for n in numbers])
        return {QUANTITY: len(calls) * BATCH / (time.perf_counter() - began)}

    return {
        FLOOR: lambda: stored(None),
        SYNK: lambda: stored(BY_FIELD),
        "by all arguments": lambda: stored(BY_ALL),
        "half of them there": lambda: stored(BY_FIELD, 0.5),
        "all of them there": lambda: stored(BY_FIELD, 1.0),
    }


if __name__ == "__main__":
    main()
