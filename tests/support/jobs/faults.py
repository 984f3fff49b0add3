"""Fault points in worker processes, to be given as `on_worker_start`."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from support.jobs import handlers
from synk.core import wire
from synk.runtime.ipc import packets

Send = Callable[..., None]


def _around_reply(before: Callable[[], None], after: Callable[[], None]) -> None:
    original = packets.send

    def send(channel: socket.socket, packet: bytes, flags: int = 0) -> None:
        is_reply = packet.startswith(wire.REPLY)
        if is_reply:
            before()
        original(channel, packet, flags)
        if is_reply:
            after()

    packets.send = send


def _nothing() -> None:
    pass


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def notes_start() -> None:
    """Notes the start, where jobs can see it too."""
    handlers.note(os.environ["SYNK_TEST_LOG"], str(os.getpid()))
    os.environ["SYNK_TEST_STARTED"] = str(os.getpid())


def fails_to_start() -> None:
    """Notes the start, and fails if the file is there that the environment names."""
    log = Path(os.environ["SYNK_TEST_LOG"])
    handlers.note(str(log), str(os.getpid()))
    if log.with_name("broken").exists():
        raise RuntimeError("the disk is gone")


def exits_at_start() -> None:
    handlers.note(os.environ["SYNK_TEST_LOG"], str(os.getpid()))
    os._exit(1)


def killed_before_reply() -> None:
    _around_reply(_kill, _nothing)


def killed_after_reply() -> None:
    _around_reply(_nothing, _kill)


def stopped_before_reply() -> None:
    _around_reply(_stop, _nothing)


def stopped_after_reply() -> None:
    _around_reply(_nothing, _stop)
