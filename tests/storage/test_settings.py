"""Settings, and the one number by which supervisors learn that some were changed."""

from __future__ import annotations

import threading
import uuid
from datetime import timedelta
from typing import Final

import psycopg
import pytest

from synk.storage.postgres import PostgresStorage
from synk.testing.making import status_of

OWNER: Final = uuid.uuid4()
PAUSE: Final = "INSERT INTO synk.setting (scope, name, value) VALUES (%s, 'paused', 'true')"


def revision(storage: PostgresStorage) -> int:
    """What a heartbeat brings."""
    storage.register_client(status_of(OWNER), timedelta(hours=1))
    with storage.heartbeat(OWNER) as heartbeat:
        beat = heartbeat.beat()
    assert beat is not None
    return beat.revision


def test_each_change_of_a_setting_gives_a_new_revision(
    connection: psycopg.Connection, storage: PostgresStorage
) -> None:
    seen = [revision(storage)]
    for change in (
        "INSERT INTO synk.setting (scope, name, value) VALUES ('queue:a', 'paused', 'true')",
        "UPDATE synk.setting SET value = 'false'",
        "DELETE FROM synk.setting",
        "TRUNCATE synk.setting",
    ):
        connection.execute(change.encode())
        seen.append(revision(storage))

    assert seen == [0, 1, 2, 3, 4]


def test_who_has_seen_a_revision_has_seen_every_change_up_to_it(
    dsn: str, connection: psycopg.Connection
) -> None:
    """The second waits for the first: else its number would be known before that one's change."""
    done = threading.Event()

    def second() -> None:
        with psycopg.connect(dsn) as other:
            other.execute(PAUSE, ("queue:b",))
        done.set()

    with psycopg.connect(dsn) as first:
        first.execute(PAUSE, ("queue:a",))
        thread = threading.Thread(target=second)
        thread.start()
        while not _is_waiting(connection):
            assert not done.is_set()
        first.commit()
    thread.join()

    number, settings = connection.execute(
        "SELECT r.number, (SELECT count(*) FROM synk.setting) FROM synk.revision AS r"
    ).fetchone() or (None, None)
    assert (number, settings) == (2, 2)


def _is_waiting(connection: psycopg.Connection) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)"
        " WHERE NOT l.granted AND a.datname = current_database())"
    ).fetchone()
    return row == (True,)


@pytest.mark.parametrize(
    "values", ["('', 'a', '1')", "('queue:a', '', '1')", "('a', repeat('x', 128), '1')"]
)
def test_a_setting_that_nobody_could_read_is_refused(
    connection: psycopg.Connection, values: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match="setting_is_small"):
        connection.execute(
            f"INSERT INTO synk.setting (scope, name, value) VALUES {values}".encode()
        )
