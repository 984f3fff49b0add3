"""The floor of latency: a row, a notification, and one process that listens for it."""

from __future__ import annotations

import psycopg

from peers import contract


class Notify(contract.WorkingPeer):
    """What PostgreSQL itself takes from an insert to another process that knows of it."""

    def prepare(self) -> None:
        self.connection = psycopg.connect(self.url, autocommit=True)
        self.connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, number integer)")

    def insert_one(self, task: str, argument: float) -> None:  # noqa: ARG002 - it is a stamp
        with self.connection.transaction():
            self.connection.execute("INSERT INTO bare (number) VALUES (%s)", (int(argument),))
            self.connection.execute("SELECT pg_notify('bare', %s)", (str(int(argument)),))

    def work(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("LISTEN bare")
            for notification in connection.notifies():
                contract.perform("stamp", float(notification.payload))


if __name__ == "__main__":
    contract.main(Notify)
