"""How a worker process begins: it settles in, loads the handlers, and runs jobs.

It is small: no database driver, no connection, no thread.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import mmap
import os
import resource
import signal
import socket
import sys
import traceback
from multiprocessing import reduction, spawn
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk import failure
from synk.core import wire
from synk.registry import Registry
from synk.runtime import linux, packets, place
from synk.runtime.noting import OutputEnd, moved_high
from synk.runtime.restore import reseed
from synk.runtime.setup import Setup
from synk.runtime.work import WorkerLoop

if TYPE_CHECKING:
    from synk.registry import Handler

OOM_SCORE: Final = 300
"""Added to a worker's oom_score_adj, so that the kernel takes it rather than its supervisor."""

_decode_setup = msgspec.msgpack.Decoder(Setup).decode
"""Made once, before the fork: making it takes a millisecond."""

_BEGIN: Final = "import sys; sys.path[:] = {path!r}; from synk.runtime import child; child.begin()"


def interpreter(program: str) -> list[str]:
    """Returns the command that runs *program* in an interpreter like this one, options and all."""
    # multiprocessing's own command, but for what it runs.
    return [*map(os.fsdecode, spawn.get_command_line()[:-3]), "-c", program]


def command(path: list[str]) -> list[str]:
    """Returns what to execute for a worker in a fresh interpreter, without its descriptors."""
    return interpreter(_BEGIN.format(path=path))


def begin() -> None:
    """The main function of a fresh interpreter."""
    os._exit(main(*map(int, sys.argv[-4:])))


def main(channel_fd: int, permits_fd: int, page_fd: int, output_fd: int) -> int:
    """Runs jobs until the supervisor closes the channel, or is gone; returns the exit status."""
    channel = socket.socket(fileno=moved_high(channel_fd))
    permits, page, output = moved_high(permits_fd), moved_high(page_fd), moved_high(output_fd)
    packet = packets.receive(channel)
    if not packet:
        return 0
    setup = _decode_setup(packet)
    place.move_to(place.Place.WORKER, setup.supervisor_pid)
    _settle_in(setup, page)
    writing = OutputEnd(output)
    try:
        handlers = _load(setup)
    except BaseException:  # noqa: BLE001 - whatever keeps the handlers from loading is reported
        text = failure.clean_text(traceback.format_exc(limit=-8), 16_000)
        channel.send(wire.PROBLEM + text.encode())
        return 1
    loop = WorkerLoop(
        setup,
        channel,
        permits,
        mmap.mmap(page, wire.PAGE_BYTES),
        handlers,
        stack_fd=page,
        output=writing,
    )
    channel.send(wire.READY)
    return loop.run()


def _settle_in(setup: Setup, stack_fd: int) -> None:
    """Makes the process a group of its own that dies with its parent and leaves a stack behind."""
    os.setsid()
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != setup.nursery_pid:
        os._exit(1)
    # What jobs start stays below this process while it lives, also what calls setsid.
    linux.adopt_orphans()
    if setup.no_new_privileges:
        linux.refuse_new_privileges()
    linux.set_name(f"synk-worker-{setup.slot}")
    linux.bear_ending_signals()
    for number in (signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.enable(file=stack_fd)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "r+b") as file:  # noqa: PTH123 - one write
        score = int(file.read())
        file.write(str(min(1000, score + OOM_SCORE)).encode())
    for name, value in setup.rlimits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        resource.setrlimit(number, (value, value if hard == resource.RLIM_INFINITY else hard))


def _load(setup: Setup) -> dict[str, Handler]:
    if setup.prepare:
        spawn.prepare(setup.prepare)
    for name in setup.modules:
        # Nothing to do where the nursery did it.
        importlib.import_module(name)
    pickler: Any = reduction.ForkingPickler
    workers, on_start = pickler.loads(setup.payload)
    handlers = dict(Registry(workers).handlers)
    reseed()
    if on_start is not None:
        on_start()
    gc.collect()
    gc.freeze()
    return handlers
