"""The worker process: read a frame, get leave for a job, run it, write down what it took.

It is small: no database driver, no connection, no thread. Whatever happens to it, the supervisor
learns the truth from the page: a job counts as begun once RUNNING says so, and as done once DONE
does, and its reply, if it has one, is sent before that.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import faulthandler
import gc
import importlib
import mmap
import os
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import reduction
from typing import TYPE_CHECKING, Any, Final

import msgspec

from synk import failure
from synk.core import wire
from synk.core.messages import Reply
from synk.job import Job
from synk.registry import Registry
from synk.runtime import linux, nursery, packets

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.registry import Handler

RESULT_BYTES_MAX: Final = 64 * 1024
"""The largest result: a row is no place for files."""

_POKE_NS: Final = 2_000_000
"""The supervisor is told of finished jobs at least this often, in nanoseconds."""

_MEASURED_NS: Final = 200_000
"""Jobs shorter than this are taken to have used the CPU all the time: asking the kernel costs more
than a microsecond."""

_OWN_FRAMES: Final = 2
"""Frames of this module on top of a handler's traceback."""


class Descriptor:
    """A file descriptor that is passed along when its holder is sent to a new process."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __getstate__(self) -> Any:
        return reduction.DupFd(self.fd)

    def __setstate__(self, duplicate: Any) -> None:
        self.fd = duplicate.detach()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a worker process is given when it starts."""

    client_id: str
    host: str
    supervisor_pid: int
    modules: tuple[str, ...]
    """What to import before anything else."""
    workers: bytes
    """The workers, pickled by the supervisor: its own objects, on the way to its own child."""
    channel: Descriptor
    permits: Descriptor
    page: Descriptor
    """The page, and behind it, for faulthandler, room for stacks."""


def main(setup: Setup) -> None:
    """Runs jobs until the supervisor closes the channel, or is gone."""
    nursery.is_worker = True
    nursery.supervisor_pid = setup.supervisor_pid
    _settle_in(setup)
    channel = socket.socket(fileno=setup.channel.fd)
    try:
        handlers = _load(setup)
    except BaseException:  # noqa: BLE001 - whatever keeps the handlers from loading is reported
        text = failure.clean_text(traceback.format_exc(limit=-8), 16_000)
        channel.send(wire.PROBLEM + text.encode())
        return
    channel.send(wire.READY)
    with contextlib.suppress(ConnectionError):
        WorkerLoop(setup, channel, handlers).run()


def _settle_in(setup: Setup) -> None:
    """Makes the process a group of its own that dies with its parent and leaves a stack behind."""
    os.setsid()
    parent = nursery.pid or setup.supervisor_pid
    linux.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    faulthandler.enable(file=setup.page.fd)
    # chain: after the dump the signal's default action ends the process, so that one signal gives
    # the stack and the death, and the death says that the stack is complete.
    faulthandler.register(signal.SIGUSR2, file=setup.page.fd, all_threads=True, chain=True)


def _ignore(_signal: int, _frame: object) -> None:
    """The supervisor decides about ends. No SIG_IGN: programs that jobs start would inherit it."""


def _load(setup: Setup) -> dict[str, Handler]:
    for name, problem in nursery.problems.items():
        raise ImportError(f"cannot import {name}:\n{problem}")
    for name in setup.modules:
        # Nothing to do where the nursery did it.
        importlib.import_module(name)
    pickler: Any = reduction.ForkingPickler
    handlers = dict(Registry(pickler.loads(setup.workers)).handlers)
    gc.collect()
    gc.freeze()
    return handlers


class WorkerLoop:
    """Runs the jobs of the frames that come down the channel."""

    def __init__(self, setup: Setup, channel: socket.socket, handlers: dict[str, Handler]) -> None:
        self._channel = channel
        self._permits = setup.permits.fd
        self._handlers = handlers
        self._client_id = setup.client_id
        self._host = setup.host
        self._pid = os.getpid()
        self._page = memoryview(mmap.mmap(setup.page.fd, wire.PAGE_BYTES)).cast("Q")
        self._told_ns = 0
        self._cpu_ns = time.process_time_ns()
        self._cheap_ns = 0

    def run(self) -> None:
        """Returns when the supervisor has closed the channel."""
        while packet := packets.receive(self._channel):
            first, jobs = wire.decode_frame(packet)
            for number, job in enumerate(jobs, first):
                permit = os.read(self._permits, 1)
                if permit == wire.VOID:
                    break
                if not permit:
                    return
                self._run_job(number, job)
                if time.monotonic_ns() - self._told_ns > _POKE_NS:
                    self._tell()
            self._tell()

    def _tell(self) -> None:
        self._told_ns = time.monotonic_ns()
        self._channel.send(wire.NEWS)

    def _run_job(self, number: int, encoded: msgspec.Raw) -> None:
        page = self._page
        page[wire.TIMEOUT_NS] = 0
        page[wire.STARTED_NS] = started_ns = time.monotonic_ns()
        page[wire.RUNNING] = number
        reply = self._attempt(encoded, started_ns)
        if os.getpid() != self._pid:
            # The job forked, and this is the child that came back: the work is the parent's.
            os._exit(70)
        wall_ns = time.monotonic_ns() - started_ns
        place = wire.RING + 2 * (number % wire.RING_JOBS)
        page[place] = wall_ns // 1000
        page[place + 1] = self._cpu_since(wall_ns) // 1000
        if reply is not None:
            packets.send(self._channel, wire.encode_reply(number, reply))
        page[wire.DONE] = number

    def _cpu_since(self, wall_ns: int) -> int:
        """Returns the CPU time in nanoseconds of the job that just took *wall_ns*."""
        if wall_ns < _MEASURED_NS:
            self._cheap_ns += wall_ns
            return wall_ns
        now_ns = time.process_time_ns()
        used_ns = max(0, now_ns - self._cpu_ns - self._cheap_ns)
        self._cpu_ns, self._cheap_ns = now_ns, 0
        return used_ns

    def _attempt(self, encoded: msgspec.Raw, started_ns: int) -> Reply | None:
        """Runs one job; returns None for the usual end, a success without a result."""
        fields = wire.decode_job(encoded)
        handler = self._handlers[fields[2]]
        try:
            args = handler.decode(fields[3])
        except Exception as error:  # noqa: BLE001 - any validator's complaint is a decode failure
            return self._failed(error, fields, started_ns, cause=failure.Cause.DECODE)
        job = Job(fields, args, self._client_id)
        try:
            if handler.names_timeout:
                self._set_timeout(handler.worker.timeout(job))
            result = handler.worker.work(job)
            return None if result is None else Reply(result=_result_text(result))
        except BaseException as error:  # noqa: BLE001 - SystemExit and the like end the job, not us
            retry_at = _asked(handler.worker.next_retry, job) if handler.names_retry else None
            return self._failed(error, fields, started_ns, retry_at=retry_at)

    def _set_timeout(self, timeout: object) -> None:
        if timeout is None:
            return
        if not isinstance(timeout, dt.timedelta) or timeout <= dt.timedelta(0):
            raise TypeError(f"timeout() returned {timeout!r}; it must be a timedelta above zero")
        self._page[wire.TIMEOUT_NS] = int(timeout.total_seconds() * 1e9)

    def _failed(
        self,
        error: BaseException,
        fields: tuple[Any, ...],
        started_ns: int,
        *,
        cause: failure.Cause = failure.Cause.EXCEPTION,
        retry_at: dt.datetime | None = None,
    ) -> Reply:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        record = failure.from_exception(
            error,
            attempt=fields[1],
            cause=cause,
            skip_frames=_OWN_FRAMES if cause is failure.Cause.EXCEPTION else 1,
            duration_s=(time.monotonic_ns() - started_ns) / 1e9,
            peak_rss_bytes=usage.ru_maxrss * 1024,
            pid=self._pid,
            host=self._host,
            supervisor=self._client_id,
        )
        return Reply(error=record.to_json(), retry_at=retry_at)


def _result_text(result: object) -> str:
    """Returns a handler's result as JSON text.

    Raises:
        ValueError: it is not JSON, or too large: the attempt fails, and says so.
    """
    import json  # noqa: PLC0415 - most handlers return nothing

    try:
        text = json.dumps(msgspec.to_builtins(result), allow_nan=False)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"the result is not JSON: {error}") from None
    if "\\u0000" in text:
        raise ValueError("the result holds a NUL character, which PostgreSQL cannot store")
    if len(text) > RESULT_BYTES_MAX:
        raise ValueError(f"the result is {len(text)} bytes of JSON, at most {RESULT_BYTES_MAX}")
    return text


def _asked(next_retry: Callable[[Job[Any]], object], job: Job[Any]) -> dt.datetime | None:
    """Returns what `next_retry` says, or None for the default if it cannot say it."""
    try:
        when = next_retry(job)
        if when is None:
            return None
        if isinstance(when, dt.datetime) and when.utcoffset() is not None:
            return when
        problem = f"returned {when!r}, not an aware datetime"
    except Exception as error:  # noqa: BLE001 - the job's own failure must still be reported
        problem = f"raised {error!r}"
    print(f"synk: next_retry of job {job.id} {problem}; using the default", file=sys.stderr)  # noqa: T201
    return None
