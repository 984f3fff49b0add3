"""A proxy before PostgreSQL that can go away, and can stop at a chosen statement.

It reads as much of the protocol as it needs: where a message ends, and which statement it runs.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal, Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from supervising import DEADLINE_S
from synk.storage import sql

_READY = b"Z"
"""The server's message after which a statement is over, and outside of a transaction durable."""


class Trap:
    """Stops one run of a statement, before the server gets it or when its answer is there."""

    def __init__(self, statement: str, at: Literal["question", "answer"]) -> None:
        self.marker = sql.statement(statement).partition("%")[0].encode()
        self.at = at
        self._reached = threading.Event()
        self._decided = threading.Event()
        self._cuts = False

    def wait(self) -> None:
        """Waits until the statement has come."""
        assert self._reached.wait(DEADLINE_S), f"no {self.marker!r} came"

    def let_go(self) -> None:
        self._decided.set()

    def cut(self) -> None:
        """Closes the connection of the statement, as if the network had."""
        self._cuts = True
        self._decided.set()

    def spring(self) -> bool:
        """Waits for the test's decision; says whether to go on."""
        self._reached.set()
        return self._decided.wait(DEADLINE_S) and not self._cuts


class Proxy:
    """Listens on a port of 127.0.0.1 for connections to one database."""

    def __init__(self, dsn: str) -> None:
        self._server = conninfo_to_dict(dsn)
        self._lock = threading.Lock()
        self._traps: list[Trap] = []
        self._open: list[socket.socket] = []
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

    def trap(self, statement: str, *, at: Literal["question", "answer"]) -> Trap:
        """Stops the next run of ``statement.sql``."""
        trap = Trap(statement, at)
        with self._lock:
            self._traps.append(trap)
        return trap

    def go_down(self) -> None:
        """From now on connections are refused, and those that are there are gone."""
        with self._lock:
            ends, self._open = [self._listener, *self._open], []
            for trap in self._traps:
                trap.cut()
        for end in ends:
            _close(end)

    def come_back(self) -> None:
        """Connections are possible again."""
        self._listener = socket.create_server(self._address)
        self._listen()

    def _listen(self) -> None:
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = self._connect()
                with self._lock:
                    self._open += [client, server]
                _Connection(self, client, server).start()

    def _connect(self) -> socket.socket:
        host, port = str(self._server["host"]), int(self._server["port"] or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def sprung_by(self, text: bytes) -> Trap | None:
        """Takes and returns the trap for a statement, if there is one."""
        with self._lock:
            for trap in self._traps:
                if trap.marker in text:
                    self._traps.remove(trap)
                    return trap
        return None


class _Connection:
    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._trap: Trap | None = None
        """Waits for the answer to what runs now."""

    def start(self) -> None:
        for run in (self._pass_questions, self._pass_answers):
            threading.Thread(target=self._guard, args=(run,), daemon=True).start()

    def _guard(self, run) -> None:
        with contextlib.suppress(OSError):
            run()
        _close(self._client)
        _close(self._server)

    def _pass_questions(self) -> None:
        texts: dict[bytes, bytes] = {}
        with self._client.makefile("rb") as reader:
            self._server.sendall(_startup(reader))
            for kind, body in _messages(reader):
                text = _text_run_by(kind, body, texts)
                trap = self._proxy.sprung_by(text) if text else None
                if trap is not None and trap.at == "answer":
                    self._trap = trap
                elif trap is not None and not trap.spring():
                    return
                self._server.sendall(_encoded(kind, body))

    def _pass_answers(self) -> None:
        held = b""
        with self._server.makefile("rb") as reader:
            for kind, body in _messages(reader):
                held += _encoded(kind, body)
                if self._trap is not None and kind == _READY:
                    trap, self._trap = self._trap, None
                    if not trap.spring():
                        return
                if self._trap is None:
                    self._client.sendall(held)
                    held = b""


def _text_run_by(kind: bytes, body: bytes, texts: dict[bytes, bytes]) -> bytes:
    """Returns the text of the statement that a message runs; remembers those it prepares."""
    match kind:
        case b"Q":
            return body
        case b"P":
            name, text, _ = body.split(b"\0", 2)
            texts[name] = text
        case b"B":
            _, name, _ = body.split(b"\0", 2)
            return texts.get(name, b"")
        case _:
            pass
    return b""


def _startup(reader) -> bytes:
    length = reader.read(4)
    return length + reader.read(struct.unpack("!i", length)[0] - 4) if length else b""


def _messages(reader) -> Iterator[tuple[bytes, bytes]]:
    while (head := reader.read(5)) and len(head) == 5:
        yield head[:1], reader.read(struct.unpack("!i", head[1:])[0] - 4)


def _encoded(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
