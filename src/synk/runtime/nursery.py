"""The nursery as its supervisor holds it: start, ask for workers, hear of births and deaths.

Nothing here waits: requests and news are packets on a socket that the engine's loop watches.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing import process
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from synk.errors import ConfigurationError
from synk.runtime import child, linux, loading, nursery_host, packets

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from synk.config import EngineConfig
    from synk.runtime.setup import Setup

_HOST: Final = (
    "import sys; sys.path[:] = {path!r}; from synk.runtime import nursery_host; "
    "nursery_host.main({fd})"
)
_END_S: Final = 4.0
"""How long the nursery may take to kill what is left, after it was told to end."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The modules are imported."""

    problems: dict[str, str]
    """Module -> why it cannot be used; then no worker is ever made."""


@dataclass(frozen=True, slots=True)
class Warned:
    """An import has left what may be trouble in workers."""

    text: str


@dataclass(frozen=True, slots=True)
class Started:
    """A worker process exists."""

    slot: int
    pid: int
    pidfd: int
    problem: str
    """Why it could not be made; then pid is 0."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A worker process is gone, and with it all that its jobs had started."""

    pid: int
    code: int
    """The exit status; negative: the number of the signal."""
    user_us: int
    system_us: int
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Lost:
    """The nursery itself is gone."""


News: TypeAlias = Warned | Loaded | Started | Ended | Lost


class Nursery:
    """The process that makes and buries the workers of one supervisor.

    Args:
        config: how workers are made, and what they get of the environment.
        setup: what each worker is told; its client's id marks the process and all that comes of it.
        prepare: what makes another interpreter like this one; see `preparation`.
    """

    def __init__(self, config: EngineConfig, setup: Setup, prepare: dict[str, Any]) -> None:
        forks = config.start_method == "forkserver"
        path = loading.own_first(prepare["sys_path"])
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _ending_signals_held():
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                child.interpreter(_HOST.format(path=path, fd=theirs.fileno())),
                env=_environment(config.worker_env, setup.client_id),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid
        settings = {
            "supervisor_pid": os.getpid(),
            "prepare": prepare,
            "withheld": setup.withheld,
            "modules": list(setup.modules) if forks else None,
            "command": [] if forks else child.command(path),
        }
        if not forks:
            setup = msgspec.structs.replace(setup, prepare=prepare)
        with contextlib.suppress(ConnectionError):
            packets.send(self.control, json.dumps(settings).encode())
            packets.send(self.control, msgspec.msgpack.encode(setup))
        self.is_loaded = False

    def request(self, slot: int, fds: list[int]) -> None:
        """Asks for a worker process for a slot, with these descriptors; `Started` follows.

        Raises:
            OSError: the nursery is gone, or does not read.
        """
        packets.send_with(self.control, json.dumps(slot).encode(), fds, packets.DONT_WAIT)

    def news(self) -> Iterator[News]:
        """Yields what the nursery has said since the last time."""
        while True:
            try:
                packet, fds = packets.receive_with(self.control, 1, packets.DONT_WAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                packet, fds = b"", []
            if not packet:
                yield Lost()
                return
            told: Any = json.loads(packet[1:])
            match packet[:1]:
                case nursery_host.WARNED:
                    yield Warned(told)
                case nursery_host.LOADED:
                    self.is_loaded = True
                    yield Loaded(told)
                case nursery_host.STARTED:
                    yield Started(told[0], told[1], fds[0] if fds else -1, told[2])
                case _:
                    yield Ended(*told)

    def kill(self) -> None:
        """Kills it, and with it all workers; `Lost` is the next news."""
        self._process.kill()

    def close(self) -> None:
        """Has it kill what is left, and waits for its end, but not for ever."""
        self.control.close()
        if not self.is_loaded:
            # It imports, for who knows how long, and there is no worker yet.
            self._process.kill()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def preparation(*, needs_main: bool) -> dict[str, Any]:
    """Returns what makes another interpreter like this one; see `loading`.

    The main script is left out unless it is needed: for a command line tool its import is a waste,
    and for a script without a guard a trap.

    Raises:
        ConfigurationError: it is needed, and there is no file of it.
    """
    ours: Any = process
    path: list[str] = [entry or ours.ORIGINAL_DIR or "" for entry in sys.path]
    wanted: dict[str, Any] = {"sys_path": path, "sys_argv": list(sys.argv)}
    if not needs_main:
        return wanted
    program = loading.program()
    if not program:
        raise ConfigurationError(
            "workers",
            "__main__",
            "live in a program without a file (python -c, a notebook, a prompt), which worker "
            "processes cannot import: put them into a module",
        )
    return wanted | program


@contextlib.contextmanager
def _ending_signals_held() -> Generator[None]:
    """What is started now begins with them blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, linux.ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment(names: tuple[str, ...] | None, tag: str) -> dict[str, str]:
    given = os.environ.keys() if names is None else names
    return {**{name: os.environ[name] for name in given if name in os.environ}, linux.TAG: tag}


def signal_name(code: int | None) -> str | None:
    """Returns the name of the signal that an exit status stands for, or None."""
    if code is None or code >= 0:
        return None
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
