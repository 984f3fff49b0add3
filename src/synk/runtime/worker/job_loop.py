"""The worker's loop: read a batch, get leave for a job, run it, write down what it took.

Whatever happens to the process, the supervisor learns the truth from the status page: a job counts
as begun once RUNNING says so, and as done once DONE does, and its reply, if it has one, is sent
before that.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from synk import kinds, registry
from synk.arguments import from_null
from synk.core import wire
from synk.core.dispatch import WINDOW_JOBS
from synk.core.messages import Reply, Request
from synk.errors import JobCancelled, SoftTimeout
from synk.job import Job
from synk.runtime.ipc import packets
from synk.runtime.worker import result
from synk.runtime.worker.dead_mans_timer import DeadMansTimer
from synk.runtime.worker.failing import Failures, NotDecoded
from synk.runtime.worker.forks import end_as_script, leave_to_parent
from synk.runtime.worker.garbage import Garbage
from synk.runtime.worker.progress import SharedAttempt
from synk.runtime.worker.restore import ProcessState
from synk.runtime.worker.result import text_of_result
from synk.runtime.worker.stack import ASK_SIGNAL, let_stack_go, stack_of_handler
from synk.runtime.worker.usage_meter import UsageMeter

if TYPE_CHECKING:
    import mmap
    import socket
    import types

    import msgspec

    from synk.claim import ClaimedJob
    from synk.core.messages import Measure
    from synk.registry import Handler
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.worker.output import OutputPipe

_HOLD_NS: Final = 50_000_000
_HOLD_JOBS: Final = WINDOW_JOBS // 2
"""What is done is told after so many nanoseconds at the latest, if the next job takes as long as
the last one, and after so many jobs. Each is half of what may be at hand: more comes in time."""

_TRIFLE_NS: Final = 50_000
_TRUST_NS: Final = 2_000_000
"""A job shorter than the first, with others behind it in its batch, is taken to have left the
process as it was, for as long as the second: looking takes some microseconds."""

_LEASE_LOOK_S: Final = 0.05

_INTERRUPTED: Final = "a job was interrupted, perhaps in the middle of an import or with a lock"
"""Nobody can tell what such an exception has left half done: the process runs no other job."""

_STACK_BYTES_MAX: Final = 32 * 1024

_OWN_FILES: Final = (__file__, kinds.__file__, registry.__file__, result.__file__)


class JobLoop:
    """Runs the jobs of the batches that come down the channel."""

    def __init__(
        self,
        setup: Setup,
        channel: socket.socket,
        permits: int,
        status_page: mmap.mmap,
        handlers: dict[str, Handler],
        *,
        stack_fd: int,
        output: OutputPipe,
    ) -> None:
        self._setup = setup
        self._channel = channel
        self._permits = permits
        self._handlers = handlers
        self._output = output
        self._pid = os.getpid()
        self._failures = Failures(setup, _OWN_FILES)
        self._memory = status_page
        self._status_page = memoryview(status_page)[: wire.WORDS_BYTES].cast("Q")
        self._meter = UsageMeter(self._status_page)
        self._timer = DeadMansTimer()
        self._attempt = SharedAttempt(status_page, self._status_page)
        self._attempt.schema = setup.schema
        self._untold = 0
        """The number of the first job that is done and was not told of; 0: there is none."""
        self._untold_ns = self._restored_ns = 0
        """When that ended, and when the process was last put back in order."""
        self._named = False
        """Whether the status page has limits that the last job's worker named."""
        self._running = 0
        """The number of the job whose code runs now; 0: only our own does."""
        self._garbage = Garbage()
        self.job: ClaimedJob | None = None
        """The job that runs, or the one before."""
        self._obeyed = -1
        self._interrupted = False
        """Whether an exception was raised in the middle of a job's code, wherever that was."""
        signal.signal(ASK_SIGNAL, self._on_ask)
        # Last: what is there now is what every job finds.
        self._state = ProcessState(stack_fd)
        self._stack_fd = stack_fd

    def let_go(self) -> None:
        """In a fork of this process, which is not the worker: leaves all of it to its parent."""
        if signal.getsignal(ASK_SIGNAL) == self._on_ask:
            signal.signal(ASK_SIGNAL, signal.SIG_DFL)
        let_stack_go()
        self._attempt.let_go(self._stack_fd)
        leave_to_parent(self._channel, self._permits, self._stack_fd, self._output.fd)
        # Last: nobody writes to it any more.
        with contextlib.suppress(BufferError):
            self._status_page.release()
            self._memory.close()

    def run(self) -> int:
        """Returns the exit status: when the supervisor has closed the channel, or it must end."""
        try:
            # What was written by `on_worker_start` is no job's.
            self._output.begin_anew(self._status_page, self._channel, 0)
            return self._serve()
        except ConnectionError:
            return 0
        except OSError:
            # A job closed our descriptors, or others have their numbers now.
            return wire.CHANNEL_LOST

    def _serve(self) -> int:
        while packet := self._next_packet():
            # Nothing of a batch is kept while the next one is waited for.
            status = self._serve_batch(wire.decode_batch(packet))
            del packet
            if status is not None:
                return status
            self._garbage.collect_if_owed()
        return 0

    def _next_packet(self) -> bytes:
        """Returns the next batch; if that is not there yet, all that is done is told before."""
        try:
            return packets.receive(self._channel, packets.DONT_WAIT)
        except BlockingIOError:
            pass
        if self._untold and self._status_page[wire.SEEN] < self._status_page[wire.DONE]:
            self._tell()
        self._timer.rest()
        return packets.receive(self._channel)

    def _serve_batch(self, batch: wire.Batch) -> int | None:
        """Runs the jobs of a batch; returns the exit status if there can be no more."""
        last = batch.first + len(batch.jobs) - 1
        for number, job in enumerate(batch.jobs, batch.first):
            permit = os.read(self._permits, 1)
            if permit == wire.VOID:
                break
            if not permit:
                return 0
            wall_ns = self._run_job(number, job, batch.cpus)
            now_ns = time.monotonic_ns()
            if self._interrupted:
                return self._replaced(_INTERRUPTED)
            if (
                wall_ns > _TRIFLE_NS
                or number == last
                or now_ns - self._restored_ns > _TRUST_NS
                or self._state.is_moved
            ):
                self._restored_ns = now_ns
                problem = self._state.restore() or self._output.restore()
                self._timer.restore()
                if problem is not None:
                    return self._replaced(problem)
            if self._status_page[wire.SEEN] >= self._untold:
                self._untold, self._untold_ns = number, now_ns
            if now_ns - self._untold_ns + wall_ns > _HOLD_NS or number - self._untold >= _HOLD_JOBS:
                self._tell()
        return None

    def _replaced(self, why: str) -> int:
        packets.send(self._channel, wire.PROBLEM + why.encode())
        return 1

    def _tell(self) -> None:
        self._untold = 0
        self._channel.send(wire.NEWS)

    # -- one job ----------------------------------------------------------------------------------

    def _run_job(self, number: int, encoded: msgspec.Raw, cpus: tuple[int, ...]) -> int:
        """Runs one job; returns what it took in nanoseconds."""
        started_ns = self._begin(number)
        self.job = claimed = wire.decode_job(encoded)
        queue = self._setup.queues[claimed.queue]
        self._timer.arm(started_ns / 1e9, queue.timeout_s)
        self._attempt.begin(number, started_ns, queue.timeout_s)
        self._state.move(queue.nice, cpus or queue.cpus, threads=len(cpus))
        reply, error, job, args = None, None, None, None
        try:
            handler = self._handlers[claimed.kind]
            args = self._decoded(handler, claimed.args)
            job = Job(claimed, args, self._setup.client_id, self._attempt)
            # In a context of its own: what it sets there is not for the next.
            reply = copy_context().run(self._call_handler, number, handler, job, started_ns)
        except BaseException as raised:  # noqa: BLE001 - SystemExit and the like end the job, not us
            error = raised
        self._running = 0
        if os.getpid() != self._pid:
            # The job forked, and this is the child that came back: the work is the parent's.
            end_as_script(error, _OWN_FILES)
        wall_ns = time.monotonic_ns() - started_ns
        measure = self._measured(number, wall_ns)
        if error is not None:
            reply = self._failures.reply(
                error,
                claimed=claimed,
                handler=self._handlers[claimed.kind],
                job=job,
                measure=measure,
                cancelled=self._was_cancelled(number),
            )
            # In this order: the destructors of what it held are the job's code, too.
            args = job = None
            self._garbage.free(error)
            error = None
        self._garbage.trim_after(measure[3])
        self._finish(number, reply)
        return wall_ns

    def _begin(self, number: int) -> int:
        """Notes that the job runs; returns since when, in nanoseconds."""
        status_page = self._status_page
        self._meter.begin()
        if self._named:
            status_page[wire.TIMEOUT_NS] = status_page[wire.SOFT_NS] = status_page[wire.RSS_MAX] = 0
            self._named = False
        started_ns = time.monotonic_ns()
        if started_ns > status_page[wire.BEGIN_UNTIL_NS] > 0:
            started_ns = self._wait_for_the_lease()
        status_page[wire.STARTED_NS] = started_ns
        status_page[wire.RUNNING] = number
        return started_ns

    def _wait_for_the_lease(self) -> int:
        """Waits while the lease is over; returns when it was not, in nanoseconds.

        The supervisor, stopped perhaps, has not said so, but ends this process once it goes on.
        """
        while (now_ns := time.monotonic_ns()) > self._status_page[wire.BEGIN_UNTIL_NS]:
            time.sleep(_LEASE_LOOK_S)
        return now_ns

    def _measured(self, number: int, wall_ns: int) -> Measure:
        status_page, place = self._status_page, wire.ring_place(number)
        measure = self._meter.measure(wall_ns)
        (
            status_page[place],
            status_page[place + 1],
            status_page[place + 2],
            status_page[place + 3],
        ) = measure
        return measure

    def _finish(self, number: int, reply: Reply | None) -> None:
        """Says what there is to say of the job, and notes that it is done."""
        status_page = self._status_page
        if self._attempt.is_used or self._output.was_used(status_page):
            reply = self._attempt.added_to(reply or Reply())
            self._output.begin_anew(status_page, self._channel, number)
        if reply is not None:
            packets.send(self._channel, wire.encode_reply(number, reply))
        status_page[wire.DONE] = number

    def _decoded(self, handler: Handler, args: str) -> Any:
        try:
            return handler.decode(args)
        except Exception:  # noqa: BLE001 - a type's own code can raise anything
            return self._decoded_null(handler, args)

    def _decoded_null(self, handler: Handler, args: str) -> Any:
        try:
            return from_null(handler.decode, args)
        except Exception as error:
            raise NotDecoded from error

    def _call_handler(
        self, number: int, handler: Handler, job: Job[Any], started_ns: int
    ) -> Reply | None:
        """Runs the handler; returns None for the usual end, a success without a result."""
        if handler.names_limits:
            self._set_limits(handler, job, started_ns)
        self._running = number
        if self._status_page[wire.ASKED] >> 1 == number:
            # It was asked before it began.
            self._obey(self._status_page[wire.ASKED])
        given = handler.worker.work(job)
        return None if given is None else Reply(result=text_of_result(given))

    def _set_limits(self, handler: Handler, job: Job[Any], started_ns: int) -> None:
        self._named = True
        status_page, worker = self._status_page, handler.worker
        timeout_s = kinds.named_seconds("timeout", worker.timeout(job))
        if timeout_s is not None:
            status_page[wire.TIMEOUT_NS] = int(timeout_s * 1e9)
            self._timer.arm(started_ns / 1e9, timeout_s)
            self._attempt.begin(self._attempt.number, started_ns, timeout_s)
        soft_s = kinds.named_seconds("soft_timeout", worker.soft_timeout(job))
        if soft_s is not None:
            status_page[wire.SOFT_NS] = int(soft_s * 1e9)
        status_page[wire.RSS_MAX] = kinds.named_bytes("max_rss", worker.max_rss(job)) or 0

    # -- being asked ------------------------------------------------------------------------------

    def _on_ask(self, _signal: int, frame: types.FrameType | None) -> None:
        """Runs between two instructions of whatever the main thread does."""
        if frame is None or frame.f_code.co_filename in _OWN_FILES or not self._running:
            return
        if self._status_page[wire.STACK_WANTED] == self._running:
            self._status_page[wire.STACK_WANTED] = 0
            text = stack_of_handler(frame, _OWN_FILES).encode(errors="replace")
            packets.send(self._channel, wire.STACK + text[-_STACK_BYTES_MAX:])
        asked = self._status_page[wire.ASKED]
        if asked >> 1 == self._running and asked != self._obeyed:
            self._interrupted = True
            self._obey(asked)

    def _obey(self, asked: int) -> None:
        self._obeyed = asked
        if asked & 1 == Request.CANCEL:
            raise JobCancelled("cancel was requested")
        seconds = self._status_page[wire.SOFT_NS] / 1e9
        raise SoftTimeout(f"the soft time limit of {seconds:g} s is over")

    def _was_cancelled(self, number: int) -> bool:
        return self._status_page[wire.ASKED] == number << 1 | Request.CANCEL
