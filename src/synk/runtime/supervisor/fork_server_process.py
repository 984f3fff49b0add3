"""The fork server as its supervisor holds it: start, ask for workers, hear of them.

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
import time
from dataclasses import dataclass
from multiprocessing import process
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec

from synk.core import stack_text
from synk.errors import ConfigurationError
from synk.remote_traceback.text import clean_text
from synk.runtime.forkserver import fork_server, imports
from synk.runtime.ipc import linux, packets
from synk.runtime.supervisor import start_failures
from synk.runtime.worker import handler_modules
from synk.runtime.worker import main as worker_main
from synk.runtime.worker.stack import STACK_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from synk.config import EngineConfig
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.selector import Selector

_PROGRAM: Final = (
    "import sys; sys.path[:] = {path!r}; from synk.runtime.forkserver import main; main.main({fd})"
)
STACK_WAIT_S: Final = 0.1
"""From the request for a stack to the SIGKILL, where the stack does not end the process before. A
dump takes about a millisecond, more on busy cores."""

_STACKS_BYTES_MAX: Final = 32 * 1024

_END_S: Final = 4.0
"""How long the fork server may take to kill what is left, after it was told to end."""


@dataclass(frozen=True, slots=True)
class ModulesImported:
    """The modules are imported."""

    problems: dict[str, str]
    """Module -> why it cannot be used; then no worker is ever made."""
    warnings: list[str]
    """What imports have left that may be trouble in workers."""


@dataclass(frozen=True, slots=True)
class WorkerForked:
    """A worker process exists."""

    slot: int
    pid: int
    pidfd: int
    problem: str
    """Why it could not be made; then pid is 0."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker process is gone, and with it all that its jobs had started."""

    pid: int
    code: int
    """The exit status; negative: the number of the signal."""
    user_us: int
    system_us: int
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class ForkServerLost:
    """The fork server itself is gone."""


News: TypeAlias = ModulesImported | WorkerForked | WorkerEnded | ForkServerLost


class ForkServerProcess:
    """The process that forks and reaps the workers of one supervisor.

    Args:
        config: how workers are made, and what they get of the environment.
        setup: what each worker is told; its client's id marks the process and all that comes of it.
        prepare: what makes another interpreter like this one; see `preparation`.
        selector: says when there are news, once `listen` was called.
    """

    def __init__(
        self, config: EngineConfig, setup: Setup, prepare: dict[str, Any], selector: Selector
    ) -> None:
        self._selector = selector
        forks = config.start_method == "forkserver"
        path = handler_modules.own_first(prepare["sys_path"])
        self._stacks = os.fdopen(os.memfd_create("synk-stacks"), "rb")
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _ending_signals_held():
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own module
                worker_main.interpreter(_PROGRAM.format(path=path, fd=theirs.fileno())),
                env=_environment(config.worker_env, setup.client_id),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), self._stacks.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid
        settings = {
            "supervisor_pid": os.getpid(),
            "stacks": self._stacks.fileno(),
            "prepare": prepare,
            "withheld": setup.withheld,
            "modules": list(setup.modules) if forks else None,
            "command": [] if forks else worker_main.command(path),
        }
        if not forks:
            setup = msgspec.structs.replace(setup, prepare=prepare)
        with contextlib.suppress(ConnectionError):
            packets.send(self.control, json.dumps(settings).encode())
            packets.send(self.control, msgspec.msgpack.encode(setup))
        self.is_loaded = False
        self._limit_s = config.start_timeout_s
        self._is_late = False
        selector.call_at(time.monotonic() + self._limit_s, self._end_if_late)

    def listen(self, on_news: Callable[[], None]) -> None:
        """Has *on_news* called from now on when there are `news`."""
        self._selector.watch(self.control.fileno(), on_news)

    def request(self, slot: int, fds: list[int]) -> None:
        """Asks for a worker process for a slot, with these descriptors; `WorkerForked` follows.

        Raises:
            OSError: the fork server is gone, or does not read.
        """
        packets.send_with(self.control, json.dumps(slot).encode(), fds, packets.DONT_WAIT)

    def news(self) -> Iterator[News]:
        """Yields what the fork server has said since the last time."""
        while True:
            try:
                packet, fds = packets.receive_with(self.control, 1, packets.DONT_WAIT)
            except BlockingIOError:
                return
            except ConnectionError:
                packet, fds = b"", []
            if not packet:
                yield ForkServerLost()
                return
            told: Any = json.loads(packet[1:])
            match packet[:1]:
                case fork_server.IMPORTED:
                    self.is_loaded = True
                    yield ModulesImported(*told)
                case fork_server.STARTED:
                    yield WorkerForked(told[0], told[1], fds[0] if fds else -1, told[2])
                case _:
                    yield WorkerEnded(*told)

    def _end_if_late(self) -> None:
        """Kills it, with its stack, if its imports take too long."""
        if self.is_loaded:
            return
        self._is_late = True
        self._process.send_signal(STACK_SIGNAL)
        # A stopped process takes no signal but these two.
        self._process.send_signal(signal.SIGCONT)
        self._selector.call_at(time.monotonic() + STACK_WAIT_S, self._process.kill)

    def kill(self) -> None:
        """Kills it, and with it all workers; `ForkServerLost` is the next news."""
        self._process.kill()

    def reap(self) -> str:
        """Waits for the end of one that is lost; returns what there is to say of it."""
        self._stacks.seek(max(0, self._stacks.seek(0, os.SEEK_END) - _STACKS_BYTES_MAX))
        text = clean_text(self._stacks.read(), _STACKS_BYTES_MAX)
        self.close()
        stack = stack_text.of_user(text, (imports.__file__, handler_modules.__file__))
        if self._is_late and not self.is_loaded:
            return f"{start_failures.late_imports(self._limit_s, stack)}\n{stack}".strip()
        code = self._process.returncode
        how = signal_name(code) or f"with exit status {code}"
        doing = "" if self.is_loaded else " while it imported the handlers' modules"
        return f"the process that makes the workers died{doing} ({how})"

    def close(self) -> None:
        """Has it kill what is left, and waits for its end, but not for ever."""
        self._selector.forget(self.control.fileno())
        self.control.close()
        self._stacks.close()
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
    program = handler_modules.program()
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
