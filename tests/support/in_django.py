"""A program on Django, with a DSN as its argument; prints "done", if nothing failed."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import django
from django.conf import settings
from django.db import connections, transaction
from psycopg.conninfo import conninfo_to_dict

import synk
from support.jobs import handlers
from synk.attempt import Attempt
from synk.job import Job
from synk.status import client_id_of
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, claim

NAME = "тест ✓"


class InTable(Attempt):
    schema = "synk"


def configure(dsn: str) -> None:
    given = conninfo_to_dict(dsn)
    place = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": given["dbname"],
        "USER": given.get("user"),
        "PASSWORD": given.get("password") or "",
        "HOST": given["host"],
        "PORT": given["port"],
    }
    settings.configure(
        DATABASES={
            "default": place,
            "server_side": {**place, "OPTIONS": {"server_side_binding": True}},
        },
        USE_TZ=True,
        TIME_ZONE="Pacific/Auckland",
    )
    django.setup()


class Program:
    """What an application does with one of its connections, and what its jobs do."""

    def __init__(self, client: synk.Client, storage: PostgresStorage, alias: str) -> None:
        self.client = client
        self.storage = storage
        self.alias = alias
        self.connection = connections[alias]
        self.connection.ensure_connection()

    def begin(self) -> Any:
        return transaction.atomic(using=self.alias)

    def names(self) -> list[str]:
        return [row.name for row in self.storage.jobs(limit=9000)]

    def insert(self) -> None:
        for given in (self.connection, self.connection.connection):
            with self.begin():
                self.client.insert_tx(given, NAME, handlers.Noop())
                with self.begin():
                    self.client.insert_many([(NAME, handlers.Noop())] * 2600, connection=given)
            with suppress(LookupError), self.begin():
                self.client.insert_tx(given, "dropped", handlers.Noop())
                self.client.insert_many([("dropped", handlers.Noop())] * 2600, connection=given)
                raise LookupError
        # Outside of a transaction Django commits each statement.
        self.client.insert_tx(self.connection, NAME, handlers.Noop())
        assert self.names() == [NAME] * 5203

    def insert_in_a_block_that_failed(self) -> None:
        before = self.names()
        with self.begin():
            transaction.set_rollback(True, using=self.alias)
            try:
                self.client.insert_tx(self.connection, "x", handlers.Noop())
            except transaction.TransactionManagementError:
                pass
            else:
                raise AssertionError("a job that will be rolled back was taken")
        assert self.names() == before

    def complete(self) -> None:
        givens = (self.connection, self.connection.connection, self.connection.cursor())
        jobs = claim(self.storage, len(givens), kinds=["noop"])
        for claimed, given in zip(jobs, givens, strict=True):
            job = Job(claimed, None, client_id_of(OWNER), InTable())
            with suppress(LookupError), self.begin():
                job.complete_tx(given, "dropped")
                raise LookupError
            with self.begin():
                job.complete_tx(given, NAME)
            with suppress(synk.LeaseLost):
                job.complete_tx(given, NAME)
                raise AssertionError("completed twice")
            assert self.storage.get([job.id])[0].result == NAME


def main() -> None:
    configure(sys.argv[1])
    storage = PostgresStorage(sys.argv[1])
    with synk.Client(storage=storage) as client:
        for alias in ("default", "server_side"):
            program = Program(client, storage, alias)
            program.insert()
            program.insert_in_a_block_that_failed()
            program.complete()
            program.connection.cursor().execute("TRUNCATE synk.job")
    connections.close_all()
    print("done")


if __name__ == "__main__":
    main()
