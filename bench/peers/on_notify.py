"""The floors of latency: a row and a notification, for one process that listens.

Bare, that is all. With the setting ``claims`` the process claims the row before it begins, as a
queue must that runs no job twice and loses none: two commits that wait for the disk.
"""

from __future__ import annotations

from typing import Final

import psycopg

from peers import contract

INSERT: Final = """
    WITH inserted AS (INSERT INTO bare (number) VALUES (%s) RETURNING id, number)
    SELECT pg_notify('bare', id || ' ' || number) FROM inserted
"""
CLAIM: Final = "UPDATE bare SET claimed_at = now() WHERE id = %s AND claimed_at IS NULL"


class Notify(contract.WorkingPeer):
    """What PostgreSQL itself takes from an insert to another process that knows of it."""

    def prepare(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.connection.execute(
            "CREATE TABLE bare (id bigserial PRIMARY KEY, number integer, claimed_at timestamptz)"
        )

    def insert_one(self, task: str, argument: float) -> None:  # noqa: ARG002 - it is a stamp
        self.connection.execute(INSERT, (int(argument),))

    def work(self) -> None:
        claims = self.settings.get("claims", False)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("LISTEN bare")
            while True:
                # All that are there: the connection is free for a claim then.
                for notification in list(connection.notifies(stop_after=1)):
                    row, number = notification.payload.split()
                    if not claims or connection.execute(CLAIM, (row,)).rowcount == 1:
                        contract.perform("stamp", float(number))


if __name__ == "__main__":
    contract.main(Notify)
