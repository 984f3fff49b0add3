"""What a connection of synk's is told when it is made, besides the DSN; and what a DSN names."""

from __future__ import annotations

import os
from typing import Any, Final

import psycopg
from psycopg import conninfo as _conninfo
from psycopg import pq

from synk.errors import ConfigurationError
from synk.storage.project import is_embedded

CONNECT_S: Final = 10
"""How long a connection may take to be made, or to be had from the pool."""

_SESSION: Final = {
    # Whatever the role or the database says.
    "default_transaction_isolation": "read committed",
    "search_path": "pg_catalog,public,pg_temp",
    "DateStyle": "ISO",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "array_nulls": "on",
    # Listening is being idle.
    "idle_session_timeout": "0",
    # An index that leaves dependents out would leave them waiting for ever.
    "gin_fuzzy_search_limit": "0",
    "statement_timeout": "50s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "60s",
    # Every join of synk's statements is a few hundred look-ups by a key. On a table that has grown
    # since its statistics were taken, the planner would rather read all of it.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    # A plan from when the table was small is kept while it grows. Where there is no index to use,
    # as for counts of everything, a table is read from end to end all the same.
    "enable_seqscan": "off",
    "enable_nestloop": "on",
    "enable_indexscan": "on",
    "enable_tidscan": "on",
    "enable_bitmapscan": "on",
    "plan_cache_mode": "auto",
    # Compiling takes longer than any of them.
    "jit": "off",
}

_KEEPALIVE: Final = {
    # A peer that is gone without a word is noticed after some 20 s, see tcp(7).
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def connect_options(
    conninfo: str, *, pooler: str | None = None, bounded: bool = True
) -> dict[str, Any]:
    """Returns what synk adds to a DSN that does not say otherwise.

    What a service file or the environment says holds as if the DSN said it. Of the settings in its
    ``options`` each takes the place of synk's.
    """
    given = resolved(conninfo)
    defaults: dict[str, Any] = {
        "application_name": "synk",
        # Whatever the database's: the server says then which text it cannot hold, and psycopg never
        # takes text for bytes.
        "client_encoding": "utf8",
        "connect_timeout": CONNECT_S,
        **_KEEPALIVE,
    }
    if "," in given.get("host", ""):
        # One of several servers, as in a cluster with a standby.
        defaults["target_session_attrs"] = "read-write"
    options = {name: value for name, value in defaults.items() if name not in given}
    # Names and arguments are Unicode, whatever else the database and its clients speak.
    options["client_encoding"] = "UTF8"
    if pooler is None:
        own = [_session_options(bounded=bounded), given.get("options", "")]
        options["options"] = " ".join(filter(None, own))
    else:
        # The next statement may run on another server connection, which knows none of ours.
        options["prepare_threshold"] = None
    return options


def _session_options(*, bounded: bool) -> str:
    def chosen(name: str, value: str) -> str:
        return "0" if not bounded and name.endswith("_timeout") else value.replace(" ", r"\ ")

    return " ".join(f"-c {name}={chosen(name, value)}" for name, value in _SESSION.items())


def resolved(conninfo: str) -> dict[str, str]:
    """Returns what libpq would connect with: by the DSN, a service file, the environment.

    libpq itself is asked, by a connection that it refuses to begin. What it does by default is left
    out, but for the names of the user and the database.

    Raises:
        psycopg.ProgrammingError: the conninfo cannot be parsed.
    """
    given = {name: str(value) for name, value in _conninfo.conninfo_to_dict(conninfo).items()}
    asked = pq.PGconn.connect_start(_conninfo.make_conninfo(conninfo, sslmode="!").encode())
    try:
        found = {
            option.keyword.decode(): option.val.decode()
            for option in asked.info
            if option.val and option.val != option.compiled and option.keyword != b"sslmode"
        }
    finally:
        asked.finish()
    return found | given


def check_dsn(dsn: str) -> None:
    """Checks that *dsn* can be parsed.

    Raises:
        ConfigurationError: it cannot; the message has no part of it that may be a password.
    """
    if is_embedded(dsn):
        return
    try:
        _conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        # libpq's own words quote the part that it stumbled over, which may be the password.
        raise ConfigurationError(
            "storage",
            _without_password(dsn),
            "is no PostgreSQL DSN: write postgresql://user:password@host/database, with special "
            "characters percent-encoded, or host=... dbname=...",
        ) from None


def described(conninfo: str) -> str:
    """Says which database it is that libpq would connect to, and where."""
    given = resolved(conninfo)
    hosts = (given.get("host") or given.get("hostaddr") or "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    if "user" not in given:
        # libpq itself does not know: it refuses to connect for that.
        service = given.get("service") or os.environ.get("PGSERVICE")
        return (
            f"the database of service {service}, which is not known" if service else "no database"
        )
    places = [_place(host, port) for host, port in zip(hosts, ports, strict=False)]
    return f"database {given.get('dbname') or given['user']} at {','.join(places)}"


def described_session(connection: psycopg.BaseConnection[Any]) -> str:
    """Says the same of a connection that is made."""
    info = connection.info
    return f"database {info.dbname} at {_place(info.host, info.port)}"


def _place(host: str, port: str | int) -> str:
    named = f"[{host}]" if ":" in host else host or "local socket"
    return f"{named}:{port or 5432}"


def _without_password(dsn: str) -> str:
    return f"{dsn.split(':', 1)[0]}:…" if "://" in dsn else "…"
