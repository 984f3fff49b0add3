"""A proxy before PostgreSQL that is the network, and a server in trouble.

It can go away, stand still, lose connections without a word, lead to another server, and stop,
break or refuse a chosen run of a chosen statement. It reads as much of the protocol as it needs:
where a message ends, and which statement it runs.

It is for those who test what becomes of synk when its network fails, one fault at a time or by
chance.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from synk.storage import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from io import BufferedReader

Place: TypeAlias = Literal["question", "sent", "answer"]
"""Where a statement is stopped: before the server gets it; when the server has it, whatever it has
done of it by then; when it has done it, and its answer is there."""

DEADLINE_S: Final = 30.0
"""How long is waited for a statement, and for what is to be done with it."""

_READY: Final = b"Z"
"""The server's message after which a statement is over, and outside of a transaction durable."""
_IDLE: Final = b"I"
_HELD_BACK: Final = b"PBDEC"
"""The client's messages that a Sync follows: they are passed on, or not, with that."""
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_WAKE_S: Final = 1.0

_FORMS: Final = {
    "ack": ("ack", "ack_plain"),
    "insert_many": ("insert_many", "insert_many_once", "insert_full"),
}
"""Statements that are sent in one of several forms."""


def _markers(statement: str) -> tuple[bytes, ...]:
    """Returns what only that statement has: its text up to the first value, or COMMIT."""
    if statement.isupper():
        return (statement.encode(),)
    names = _FORMS.get(statement, (statement,))
    return tuple(sql.statement(name).partition("%")[0].encode() for name in names)


class Trap:
    """Stops one run of a statement.

    Args:
        statement: the name of its file, or ``COMMIT``.
        at: where it is stopped.
        runs_before: how many of its runs are let through before.

    Attributes:
        markers: what only that statement has.
        sprung_at: when the statement came, by the monotonic clock; None: not yet.
    """

    def __init__(self, statement: str, at: Place, runs_before: int) -> None:
        self.markers = _markers(statement)
        self.at: Place = at
        self.runs_before = runs_before
        self.sprung_at: float | None = None
        self._reached = threading.Event()
        self._decided = threading.Event()
        self._cuts = False

    def wait(self) -> None:
        """Waits until the statement has come."""
        assert self._reached.wait(DEADLINE_S), f"none of {self.markers!r} came"

    def let_go(self) -> None:
        """Lets the statement go on, as if nothing had been."""
        self._decided.set()

    def cut(self) -> None:
        """Closes the connection of the statement, as if the network had, now or when it comes."""
        self._cuts = True
        self._decided.set()

    def spring(self) -> bool:
        """Waits for the decision; says whether to go on."""
        self.sprung_at = self.sprung_at or time.monotonic()
        self._reached.set()
        return self._decided.wait(DEADLINE_S) and not self._cuts


@dataclass(eq=False)
class Refusal:
    """What the server says to a statement instead of running it.

    Attributes:
        markers: what only the statements have that it is said to.
        sqlstate: the error's code.
        message: its text.
        count: how often it was said.
    """

    markers: tuple[bytes, ...]
    sqlstate: str
    message: str
    count: int = 0

    def encoded(self, status: bytes) -> bytes:
        """Returns the server's messages, with the *status* of the transaction after them."""
        fields = {b"S": b"ERROR", b"V": b"ERROR", b"C": self.sqlstate.encode()}
        fields[b"M"] = self.message.encode()
        body = b"".join(code + text + b"\0" for code, text in fields.items()) + b"\0"
        return _encoded(b"E", body) + _encoded(_READY, status)


class Proxy:
    """Listens on a port of 127.0.0.1 for connections to one database, from when it is made on.

    Args:
        dsn: where the database is.

    Attributes:
        dsn: by what it is reached through this.
        delay_s: how long each of the server's messages is on its way; 0 by default.
        connections: how many were made so far.
    """

    def __init__(self, dsn: str) -> None:
        self._server = conninfo_to_dict(dsn)
        self._lock = threading.Lock()
        self._traps: list[Trap] = []
        self._refusals: list[Refusal] = []
        self._open: list[_Connection] = []
        self._forgotten: list[_Connection] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self.delay_s = 0.0
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = self._listener.getsockname()
        self.dsn = make_conninfo(
            dsn, host=self._address[0], port=self._address[1], sslmode="disable",
            gssencmode="disable",
        )  # fmt: skip
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_down()
        self.flow()

    # -- one statement ----------------------------------------------------------------------------

    def trap(self, statement: str, *, at: Place, runs_before: int = 0) -> Trap:
        """Stops one run of *statement*, a file's name or ``COMMIT``, after *runs_before* others.

        Where it is stopped, *at* says.
        """
        trap = Trap(statement, at, runs_before)
        with self._lock:
            self._traps.append(trap)
        return trap

    def take_traps_away(self) -> None:
        """Lets all statements through that no trap has stopped yet."""
        with self._lock:
            self._traps.clear()

    @contextlib.contextmanager
    def refusing(self, *statements: str, sqlstate: str, message: str = "no") -> Generator[Refusal]:
        """Answers *statements* with the error *sqlstate*, *message*; the server never sees them."""
        markers = tuple(marker for name in statements for marker in _markers(name))
        refusal = Refusal(markers, sqlstate, message)
        with self._lock:
            self._refusals.append(refusal)
        try:
            yield refusal
        finally:
            with self._lock:
                self._refusals.remove(refusal)

    # -- the network ------------------------------------------------------------------------------

    def go_down(self) -> None:
        """From now on connections are refused, and those that are there are gone."""
        with self._lock:
            connections = [*self._open, *self._forgotten]
            self._open, self._forgotten = [], []
            for trap in self._traps:
                trap.cut()
        _close(self._listener)
        for connection in connections:
            connection.close()

    def come_back(self) -> None:
        """Connections are possible again."""
        self._listener = socket.create_server(self._address)
        self._listen()

    def reset(self) -> None:
        """Resets all connections that are there (RST); new ones are possible."""
        with self._lock:
            connections, self._open = self._open, []
        for connection in connections:
            connection.reset()

    def lead_to(self, dsn: str) -> None:
        """From now on this is the database *dsn*; the connections to the former one are gone."""
        self._server = conninfo_to_dict(dsn)
        self.reset()

    def stand_still(self) -> None:
        """Nothing is passed on any more, and nothing closed, until `flow`."""
        self._flowing.clear()

    @property
    def stands_still(self) -> bool:
        """Whether nothing is passed on at present."""
        return not self._flowing.is_set()

    def flow(self) -> None:
        """All that was sent meanwhile arrives."""
        self._flowing.set()

    def forget(self) -> None:
        """Loses the connections that are there without a word: nothing that is sent arrives."""
        with self._lock:
            for connection in self._open:
                connection.is_forgotten = True
            self._forgotten += self._open
            self._open = []

    def wait_until_it_flows(self) -> None:
        """Waits as long as the network does not pass anything on."""
        self._flowing.wait()

    # -- for its threads --------------------------------------------------------------------------

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                self.wait_until_it_flows()
                self._open_one(client)

    def _open_one(self, client: socket.socket) -> None:
        self.connections += 1
        try:
            connection = _Connection(self, client, self._connect())
        except OSError:
            _close(client)
            return
        with self._lock:
            connection.start()
            self._open.append(connection)

    def _connect(self) -> socket.socket:
        host, port = str(self._server["host"]), int(self._server["port"] or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(f"{host}/.s.PGSQL.{port}")
        except OSError:
            server.close()
            raise
        return server

    def has_ended(self, connection: _Connection) -> None:
        """Forgets about *connection*, which is closed."""
        with self._lock, contextlib.suppress(ValueError):
            self._open.remove(connection)

    def sprung_by(self, text: bytes) -> Trap | None:
        """Takes and returns the trap for a run of the statement *text*, if there is one."""
        with self._lock:
            for trap in self._traps:
                if any(marker in text for marker in trap.markers):
                    trap.runs_before -= 1
                    if trap.runs_before < 0:
                        self._traps.remove(trap)
                        return trap
        return None

    def refusal_of(self, text: bytes) -> Refusal | None:
        """Returns what a run of the statement *text* is answered with instead, if anything."""
        with self._lock:
            for refusal in self._refusals:
                if any(marker in text for marker in refusal.markers):
                    refusal.count += 1
                    return refusal
        return None


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._trap: Trap | None = None
        """Waits for the answer to what runs now."""
        self._status = _IDLE
        """Of the transaction, as the server has told it last."""
        self._texts: dict[bytes, bytes] = {}
        """Of the statements that are prepared, by their names."""
        self.is_forgotten = False
        self._is_reset = False
        self._threads = [
            threading.Thread(target=self._guard, args=(run,), daemon=True)
            for run in (self._pass_questions, self._pass_answers)
        ]

    def start(self) -> None:
        """Passes on what comes from either side."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Closes both ends."""
        _close(self._server)
        if self._is_reset:
            self._client.close()
        else:
            _close(self._client)

    def reset(self) -> None:
        """Has the client's end closed as one that died: what reads there wakes up and does it.

        Then it is closed when this returns; while all stands still, by what waits there.
        """
        self._is_reset = True
        with contextlib.suppress(OSError):
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self._client.shutdown(socket.SHUT_RD)
        _close(self._server)
        self._threads[0].join(_WAKE_S)

    def _guard(self, run: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, ValueError):
            run()
        self._proxy.has_ended(self)
        if self.is_forgotten and run == self._pass_answers:
            # The client is not to hear of it.
            _close(self._server)
        else:
            self.close()

    def _pass_questions(self) -> None:
        held: list[tuple[bytes, bytes]] = []
        with self._client.makefile("rb") as reader:
            self._server.sendall(_startup(reader))
            for kind, body in _messages(reader):
                held.append((kind, body))
                if kind in _HELD_BACK:
                    continue
                if not self._pass_on(held):
                    return
                held = []

    def _pass_on(self, messages: list[tuple[bytes, bytes]]) -> bool:
        """Passes on what belongs together; says whether the connection goes on."""
        text = b"".join(self._text_run_by(kind, body) for kind, body in messages)
        self._proxy.wait_until_it_flows()
        if self.is_forgotten:
            return True
        if text and (refusal := self._proxy.refusal_of(text)):
            self._client.sendall(refusal.encoded(self._status))
            return True
        trap = self._proxy.sprung_by(text) if text else None
        if trap is not None and trap.at == "question" and not trap.spring():
            return False
        if trap is not None and trap.at != "question":
            self._trap = trap
        self._server.sendall(b"".join(_encoded(kind, body) for kind, body in messages))
        return trap is None or trap.at != "sent" or trap.spring()

    def _text_run_by(self, kind: bytes, body: bytes) -> bytes:
        """Returns the text of the statement that a message runs; remembers those it prepares."""
        match kind:
            case b"Q":
                return body
            case b"P":
                name, text, _ = body.split(b"\0", 2)
                self._texts[name] = text
            case b"B":
                _, name, _ = body.split(b"\0", 2)
                return self._texts.get(name, b"")
            case _:
                pass
        return b""

    def _pass_answers(self) -> None:
        held = b""
        with self._server.makefile("rb") as reader:
            for kind, body in _messages(reader):
                held += _encoded(kind, body)
                if kind == _READY:
                    self._status = body
                if self._trap is not None and kind == _READY:
                    if not self._trap.spring():
                        return
                    self._trap = None
                if self._trap is None:
                    self._answer(held)
                    held = b""

    def _answer(self, messages: bytes) -> None:
        if self._proxy.delay_s:
            time.sleep(self._proxy.delay_s)
        self._proxy.wait_until_it_flows()
        if not self.is_forgotten:
            self._client.sendall(messages)


def _startup(reader: BufferedReader) -> bytes:
    length = reader.read(4)
    return length + reader.read(struct.unpack("!i", length)[0] - 4) if length else b""


def _messages(reader: BufferedReader) -> Iterator[tuple[bytes, bytes]]:
    while (head := reader.read(5)) and len(head) == 5:
        yield head[:1], reader.read(struct.unpack("!i", head[1:])[0] - 4)


def _encoded(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
