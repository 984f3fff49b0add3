"""X1 to X4 and X14: rows, names and texts that somebody else wrote, and roles that mean harm."""

from __future__ import annotations

import ast
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo

import synk
from support.jobs import handlers, snooping
from support.servers import Server
from support.supervising import SupervisorProcess, ended, make_client, supervised, wait_until
from synk import Change, JobState
from synk.failure import AttemptError
from synk.storage.postgres import PostgresStorage
from synk.testing.making import OWNER, get, insert, register

ONCE = synk.InsertOptions(max_retries=0)
SOURCES = sorted(Path(synk.__file__).parent.rglob("*.py"))


# --- X1: nothing is made of bytes but data -------------------------------------------------------

DANGEROUS_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml", "jsonpickle"}
DANGEROUS_CALLS = {"eval", "exec", "compile"}
UNPICKLES = {"runtime/worker/main.py": 1}
"""The worker unpickles its setup, which its supervisor made: from parent to child only."""


def test_x1_no_source_makes_objects_or_code_of_data() -> None:
    loads: dict[str, int] = {}
    found: list[str] = []
    for file in SOURCES:
        name = str(file.relative_to(Path(synk.__file__).parent))
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Import(names=names) if {n.name for n in names} & DANGEROUS_MODULES:
                    found.append(f"{name}:{node.lineno}")
                case ast.ImportFrom(module=module) if module in DANGEROUS_MODULES:
                    found.append(f"{name}:{node.lineno}")
                case ast.Call(func=ast.Name(id=called)) if called in DANGEROUS_CALLS:
                    found.append(f"{name}:{node.lineno}")
                case ast.Call(func=ast.Attribute(value=ast.Name(id="pickler"), attr="loads")):
                    loads[name] = loads.get(name, 0) + 1
                case _:
                    pass

    assert found == []
    assert loads == UNPICKLES


WATCHED = """
import sys
def watch(event, arguments):
    if event in ("pickle.find_class", "marshal.loads", "exec", "compile") and armed:
        import traceback
        print("WATCHED", event, repr(arguments)[:200], file=sys.stderr, flush=True)
        traceback.print_stack()
armed = False
sys.addaudithook(watch)
import synk
from support.jobs import handlers
from support.jobs import snooping
from support.supervising import make_client
if __name__ == "__main__":
    client = make_client(sys.argv[1], workers=[*handlers.WORKERS, *snooping.WORKERS], processes=1)
    client.telemetry.subscribe(lambda fact: None)
    print(client.id, flush=True)
    import threading
    def arm():
        global armed
        armed = True
    client.telemetry.subscribe(lambda fact: arm() if "attempt 1/1" in str(fact) else None)
    client.start()
    # The watch works.
    print("ENDED", file=sys.stderr, flush=True)
    import pickle
    pickle.loads(pickle.dumps(synk.JobState.RUNNING))
"""


def test_x1_a_supervisor_makes_no_object_of_what_rows_and_workers_say(dsn: str) -> None:
    with SupervisorProcess(dsn, "", WATCHED) as process, make_client(dsn) as client:
        # From the first failed attempt on, when all that it needs is imported.
        first = client.insert("x", snooping.Say("first"), ONCE)
        ended(client, first)
        for how in ("raise_chain", "raise_group", "raise_custom", "huge_result", "kill_self"):
            ended(client, client.insert("x", handlers.Misbehave(how), ONCE))
        ended(client, client.insert("x", handlers.Typed(1, ["x"])))
        process.process.terminate()
        code, _, err = process.wait()

    before, _, after = err.partition("ENDED")
    assert (code, "WATCHED" in before, "WATCHED" in after) == (0, False, True), err


# --- X2: a row names nothing that is imported or called -------------------------------------------

EVIL = """
from pathlib import Path
Path(__file__).with_name("was-imported").touch()
class Boom(Exception):
    pass
def run(*_):
    pass
"""


def test_x2_a_row_makes_nobody_import_or_call_anything(
    dsn: str, connection: psycopg.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    kinds = ["evil.run", "evil", "os.system", "builtins.eval", "../../evil", "evil:run"]
    record = AttemptError(attempt=1, error="evil.Boom: x", type="evil.Boom").to_json()
    for kind in kinds:
        connection.execute(
            "INSERT INTO synk.job (kind, name, args, errors)"
            " VALUES (%s, 'x', %s, ARRAY[%s::jsonb])",
            (kind, '{"command": "true", "fn": "evil.run", "__reduce__": "evil.run"}', record),
        )
    with supervised(dsn) as client:
        ended(client, client.insert("x", handlers.Noop(), synk.InsertOptions(queue="default")))
        listed = client.storage.jobs(state=JobState.AVAILABLE, limit=10)
        rows = client.storage.get([row.id for row in listed])
        exceptions = [row.errors[0].as_exception() for row in rows]

    assert sorted(row.kind for row in rows) == sorted(kinds)
    assert {type(exception) for exception in exceptions} == {synk.RemoteError}
    assert not (tmp_path / "was-imported").exists()
    assert "evil" not in sys.modules


# --- X3: names are values, never text of a statement ----------------------------------------------

NAMES = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="\x00"),
    min_size=1,
    max_size=127,
)


@pytest.fixture(scope="module")
def kept(server: Server) -> Iterator[PostgresStorage]:
    with server.database() as dsn:
        storage = PostgresStorage(dsn)
        register(storage, OWNER)
        yield storage
        storage.close()


@settings(max_examples=40, deadline=None)
@given(name=NAMES, queue=NAMES, kind=NAMES, key=NAMES)
@example("'; DROP TABLE synk.job; --", '"', "%s %(id)s %%", "{}")
@example("\\", "$$", "$1", "E'\\x27'")
@example("synk.job", "job", "SCHEMA synk", "pg_sleep(9)")
def test_x3_any_name_is_stored_and_found_as_it_is(
    kept: PostgresStorage, name: str, queue: str, kind: str, key: str
) -> None:
    job_id = insert(kept, name=name, kind=kind, queue=queue, idempotency_key=key)
    row = get(kept, job_id)
    assert (row.name, row.kind, row.queue, row.idempotency_key) == (name, kind, queue, key)
    assert [row.id for row in kept.jobs(queue=queue, kind=kind)] == [job_id]
    assert kept.counts(queue) == {JobState.AVAILABLE: 1}
    (job,) = kept.get_job_available(queue, 5, kinds=[kind], owner=OWNER, claim_seq=1)
    assert (job.id, job.name, job.kind) == (job_id, name, kind)
    assert kept.cancel(job_id) is Change.REQUESTED
    kept.statements.queue_depths()
    with kept.connector.connection() as connection:
        connection.execute("DELETE FROM synk.job")


# --- X4: names of others in the search path -------------------------------------------------------

TRAPS = """
CREATE TABLE public.trapped (by text);
GRANT INSERT, SELECT ON public.trapped TO PUBLIC;
CREATE FUNCTION public.spring(by text) RETURNS void LANGUAGE sql AS
    'INSERT INTO public.trapped VALUES ($1)';
CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql AS
    $$ SELECT public.spring('now'); SELECT pg_catalog.now() $$;
CREATE FUNCTION public.pg_notify(text, text) RETURNS void LANGUAGE sql AS
    $$ SELECT public.spring('pg_notify') $$;
CREATE FUNCTION public.same(text, text) RETURNS boolean LANGUAGE sql AS
    $$ SELECT public.spring('='); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.same);
CREATE FUNCTION public.same_id(bigint, bigint) RETURNS boolean LANGUAGE sql AS
    $$ SELECT public.spring('= id'); SELECT $1 OPERATOR(pg_catalog.=) $2 $$;
CREATE OPERATOR public.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = public.same_id);
CREATE FUNCTION public.cardinality(anyarray) RETURNS integer LANGUAGE sql AS
    $$ SELECT public.spring('cardinality'); SELECT pg_catalog.cardinality($1) $$;
"""


@contextmanager
def trapped(connection: psycopg.Connection) -> Iterator[None]:
    """Puts functions and operators of somebody else before PostgreSQL's own, for all sessions."""
    connection.execute(TRAPS.encode())
    database = sql.Identifier(connection.info.dbname)
    connection.execute(
        sql.SQL("ALTER DATABASE {} SET search_path = public, pg_catalog").format(database)
    )
    yield
    connection.execute("RESET search_path")


def test_x4_functions_and_operators_of_others_are_never_called(
    dsn: str, connection: psycopg.Connection
) -> None:
    with trapped(connection):
        with psycopg.connect(dsn, autocommit=True) as plain:
            # The traps are real: whoever trusts the search path falls into them.
            plain.execute("SELECT now() WHERE 'x'::text = 'x'::text")
            sprung = plain.execute("SELECT DISTINCT by FROM public.trapped ORDER BY 1").fetchall()
            plain.execute("DELETE FROM public.trapped")
        with supervised(dsn) as client:
            first = client.insert("x", handlers.Noop())
            after = client.insert("x", handlers.Noop(), synk.InsertOptions(depends_on=(first,)))
            failed = client.insert("x", handlers.Misbehave("raise_group"), ONCE)
            many = client.insert_many([("x", handlers.Noop())] * 3)
            for job_id in (after, failed, *many):
                ended(client, job_id)
            client.retry(failed)
            client.cancel(failed)
        # A plain insert by psql runs the table's triggers in a session of anybody.
        with psycopg.connect(dsn, autocommit=True) as plain:
            plain.execute(
                "INSERT INTO synk.job (kind, name, depends_on) VALUES ('noop', 'x', ARRAY[%s])"
                " RETURNING id",
                (after,),
            )
        left = connection.execute("SELECT DISTINCT by FROM public.trapped").fetchall()

    assert sprung == [("=",), ("now",)]
    assert left == []


def test_x4_nobody_else_can_make_anything_in_the_schema(
    server: Server, connection: psycopg.Connection
) -> None:
    name = f"test_nobody_{connection.info.dbname[-12:]}"
    role = sql.Identifier(name)
    connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'x'").format(role))
    try:
        dsn = make_conninfo(server.dsn, dbname=connection.info.dbname, user=name, password="x")
        with psycopg.connect(dsn, autocommit=True) as attacker:
            for statement in (
                "CREATE FUNCTION synk.now() RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE TABLE synk.mine ()",
                "SELECT * FROM synk.job",
                "SELECT synk.cancel(1)",
                "CREATE TRIGGER mine AFTER INSERT ON synk.job EXECUTE FUNCTION synk.job_announce()",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    attacker.execute(statement.encode())
    finally:
        connection.execute(sql.SQL("DROP ROLE {}").format(role))


# --- X14: one fact, one line ----------------------------------------------------------------------


def test_x14_a_text_of_a_job_makes_no_line_and_no_colour_of_its_own_in_the_log(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="synk")
    evil = "x\n2026-01-01 ERROR all is lost\r\x1b[2J\x1b]0;title\x07\x9b31m\u2028\x85"
    with supervised(dsn, workers=snooping.WORKERS) as client:
        ended(client, client.insert("x", snooping.Say(evil.replace("{", "")), ONCE))
        wait_until(lambda: any("all is lost" in each.getMessage() for each in caplog.records))

    told = [each.getMessage() for each in caplog.records]
    assert all(text.isprintable() for text in told), told
    assert sum("all is lost" in text for text in told) == 1
