"""How a worker process begins: it loads the handlers, waits for a slot, and runs jobs.

It is small: no database driver, no connection, no thread.
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import gc
import importlib
import mmap
import os
import resource
import shutil
import signal
import socket
import sys
import weakref
from dataclasses import dataclass
from multiprocessing import reduction, spawn
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk.core import wire
from synk.registry import Registry
from synk.remote_traceback.text import clean_text
from synk.runtime.ipc import job_log, linux, packets, process_role
from synk.runtime.ipc.setup import Setup
from synk.runtime.worker import handler_modules, reseeding
from synk.runtime.worker.forks import Forks, exit_functions, leave_to_parent
from synk.runtime.worker.job_loop import JobLoop
from synk.runtime.worker.output import OutputPipe
from synk.runtime.worker.stack import end_with_stack, let_stack_go

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.registry import Handler

OOM_SCORE: Final = 300
"""Added to a worker's oom_score_adj, so that the kernel takes it rather than its supervisor."""

SLOT_DESCRIPTORS: Final = 4
"""Channel, permits, status page and output: what makes a process the worker of a slot."""

_decode_setup = msgspec.msgpack.Decoder(Setup).decode
"""Made once, before the fork: making it takes a millisecond."""

_BEGIN: Final = (
    "import sys; sys.path[:] = {path!r}; from synk.runtime.worker import main; main.begin()"
)


def interpreter(program: str) -> list[str]:
    """Returns the command that runs *program* in an interpreter like this one, options and all."""
    # multiprocessing's own command, but for what it runs.
    return [*map(os.fsdecode, spawn.get_command_line()[:-3]), "-c", program]


def command(path: list[str]) -> list[str]:
    """Returns what to execute for a worker in a fresh interpreter, without its descriptors."""
    return interpreter(_BEGIN.format(path=path))


def begin() -> None:
    """The main function of a fresh interpreter."""
    entrance_fd, fork_server_pid = map(int, sys.argv[-2:])
    os._exit(main(entrance_fd, fork_server_pid, Forks()))


def main(entrance_fd: int, fork_server_pid: int, forks: Forks) -> int:
    """Gets ready, waits for a slot, and works there; returns the exit status.

    Args:
        entrance_fd: where the setup and then the slot's descriptors come from.
        fork_server_pid: the parent.
        forks: minds what is forked here.
    """
    _settle_in(fork_server_pid)
    _leave_to_importer()
    with socket.socket(fileno=entrance_fd) as entrance:
        entrance.set_inheritable(False)
        packet = packets.receive(entrance)
        if not packet:
            return 0
        setup = _decode_setup(packet)
        process_role.take(process_role.ProcessRole.WORKER, setup.supervisor_pid)
        _limit(setup)
        # A fresh interpreter is made for a slot, and must be able to say where its imports hang;
        # one that was forked has no imports to do, and loads ahead of its slot.
        slot = _await_slot(entrance, forks) if setup.prepare else None
        loaded = _load(setup)
        slot = slot or _await_slot(entrance, forks)
    return 0 if slot is None else _work(slot, setup, loaded, forks)


@dataclass(frozen=True, slots=True)
class SlotDescriptors:
    """What makes this process the worker of a slot."""

    channel: socket.socket
    permits: int
    status_page: int
    output: int

    def let_go(self) -> None:
        """In a fork of this process, which is not the worker: leaves all of it to its parent."""
        let_stack_go()
        leave_to_parent(self.channel, self.permits, self.status_page, self.output)


def _await_slot(entrance: socket.socket, forks: Forks) -> SlotDescriptors | None:
    """Waits for a slot; returns what came with it, or None if there is none any more."""
    packet, slot_fds = packets.receive_with(entrance, SLOT_DESCRIPTORS)
    if not slot_fds:
        return None
    linux.set_name(f"synk-worker-{int(packet)}")
    channel, permits, status_page, output = map(linux.moved_high, slot_fds)
    slot = SlotDescriptors(socket.socket(fileno=channel), permits, status_page, output)
    # At a crash: all threads' stacks and, from Python 3.14 on, that of the calls in C.
    faulthandler.enable(file=status_page)
    end_with_stack(status_page)
    forks.let_go = slot.let_go
    return slot


def _work(slot: SlotDescriptors, setup: Setup, loaded: LoadedHandlers, forks: Forks) -> int:
    """Runs jobs until the supervisor closes the channel, or is gone; returns the exit status."""
    channel = slot.channel
    writing = OutputPipe(slot.output)
    problem = _start(loaded, setup)
    if problem:
        channel.send(wire.PROBLEM + problem.encode())
        return 1
    loop = JobLoop(
        setup,
        channel,
        slot.permits,
        mmap.mmap(slot.status_page, wire.STATUS_PAGE_BYTES),
        loaded.handlers,
        stack_fd=slot.status_page,
        output=writing,
    )
    forks.let_go = loop.let_go
    # After all that the jobs' modules and `on_worker_start` may have configured.
    job_log.install(setup.log_level, lambda: loop.job, writing.is_led_to)
    channel.send(wire.READY)
    status = loop.run()
    if status == 0:
        # It was told to end, and has a moment for it: see `core.pool.LEAVE_S`.
        with contextlib.suppress(BaseException):
            exit_functions()
    return status


def _leave_to_importer() -> None:
    """Has no exit function of this process remove what the imports made for all workers."""
    finalizers: Any = weakref.finalize
    for finalizer in list(finalizers._registry):  # noqa: SLF001 - there is no public list
        finalizer.atexit = False
    for function in (shutil.rmtree, os.remove, os.unlink, os.rmdir):
        atexit.unregister(function)


def _settle_in(fork_server_pid: int) -> None:
    """Makes the process a group of its own that dies with its parent."""
    os.setsid()
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != fork_server_pid:
        os._exit(1)
    # What jobs start stays below this process while it lives, also what calls setsid.
    linux.adopt_orphans()
    linux.set_name("synk-spare")
    linux.bear_ending_signals()
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+b") as file:  # noqa: PTH123 - one write
        score = int(file.read())
        file.write(str(min(1000, score + OOM_SCORE)).encode())


def _limit(setup: Setup) -> None:
    if setup.no_new_privileges:
        linux.refuse_new_privileges()
    for name, value in setup.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (value, value if hard == resource.RLIM_INFINITY else hard))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedHandlers:
    """What came with the setup."""

    handlers: dict[str, Handler]
    on_start: Callable[[], object] | None = None
    """What is to be called once the process has a slot, before its first job."""
    problem: str = ""
    """Why the handlers cannot be used, if so."""


def _load(setup: Setup) -> LoadedHandlers:
    try:
        if setup.prepare:
            handler_modules.prepare_paths(setup.prepare)
            handler_modules.import_main(setup.prepare)
        for name in setup.modules:
            # Nothing to do where the fork server did it.
            importlib.import_module(name)
        pickler: Any = reduction.ForkingPickler
        workers, on_start = pickler.loads(setup.payload)
        handlers = dict(Registry(workers).handlers)
    except BaseException as error:  # noqa: BLE001 - whatever keeps them from loading is reported
        return LoadedHandlers(handlers={}, problem=_problem(error, setup))
    reseeding.reseed()
    # Those that came with the workers are the same in all processes.
    reseeding.renew(reseeding.generators())
    _freeze()
    return LoadedHandlers(handlers=handlers, on_start=on_start)


def _start(loaded: LoadedHandlers, setup: Setup) -> str:
    """Does what is to be done before the first job; returns why there can be none, if so."""
    if loaded.on_start is None:
        return loaded.problem
    try:
        loaded.on_start()
    except BaseException as error:  # noqa: BLE001 - as above
        return _problem(error, setup)
    _freeze()
    return ""


def _problem(error: BaseException, setup: Setup) -> str:
    return clean_text(handler_modules.told(error, setup.withheld), 16_000)


def _freeze() -> None:
    gc.collect()
    gc.freeze()
