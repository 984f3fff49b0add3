"""One worker process, as its supervisor holds it: send, read, take back, ask, kill.

The process itself is forked, and reaped, by the fork server. Nothing here ever waits for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from synk import failure
from synk.core import wire
from synk.core.messages import Exit, Report, Usage
from synk.runtime.ipc import linux, packets
from synk.runtime.supervisor.fork_server_process import signal_name
from synk.runtime.supervisor.job_output import Outputs
from synk.runtime.supervisor.permits import Permits
from synk.runtime.supervisor.selector import READABLE, WRITABLE
from synk.runtime.supervisor.status_page import STACK_BYTES_MAX, StatusPage
from synk.runtime.worker.job_loop import ASK_SIGNAL
from synk.runtime.worker.restore import STACK_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.claim import ClaimedJob
    from synk.core.messages import Reply, Request
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.fork_server_process import WorkerEnded
    from synk.runtime.supervisor.output_lines import Passer
    from synk.runtime.supervisor.selector import Selector


class WorkerProcess:
    """A process for one slot, from the request for it until it is reaped.

    Args:
        setup: what all workers are told.
        selector: hears of it, once `listen` was called.
        passer: where its jobs' output goes.
        job_of: says which job has a number, of those that it was sent and that are not over.
    """

    def __init__(
        self,
        setup: Setup,
        selector: Selector,
        passer: Passer,
        job_of: Callable[[int], ClaimedJob | None] = lambda _: None,
    ) -> None:
        self._setup = setup
        self._selector = selector
        self.channel, self._worker_channel = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._permits = Permits()
        self._page = StatusPage()
        self._words = self._page.words
        reading, self._output_in = os.pipe()
        linux.widen_pipe(reading)
        self._output = Outputs(reading, self._words, selector, passer, job_of)
        self._outbox: deque[tuple[bytes, int]] = deque()
        """Batches that wait for room in the channel."""
        self._waits_for_room = False
        self._sent = self._done = 0
        self._problem = ""
        self.is_garbled = False
        """Whether it has said what no worker says, so that nothing more is believed of it."""
        self._seen = Report()
        """The last report that told of a running job."""
        self.stack: str | None = None
        """Where its job was when it was last asked, once it has answered."""
        self.is_ready = False
        self._is_killed = False
        self.pid, self._pidfd = 0, -1
        self._on_news: Callable[[], None] | None = None
        self._on_death: Callable[[], None] | None = None

    @property
    def descriptors(self) -> list[int]:
        """What makes a process the slot's worker, in the order that `worker.main` has."""
        return [
            self._worker_channel.fileno(),
            self._permits.worker_fd,
            self._page.fd,
            self._output_in,
        ]

    def forked(self, pid: int, pidfd: int) -> None:
        """The process exists."""
        self.pid, self._pidfd = pid, pidfd
        # From now on the pipe ends when its writers do.
        os.close(self._output_in)
        self._output_in = -1
        if self._is_killed:
            # Its end was decided before it was there.
            self.kill()
        self._watch_death()

    # -- being heard ------------------------------------------------------------------------------

    def listen(self, on_news: Callable[[], None], on_death: Callable[[], None]) -> None:
        """Has the selector hear of it from now on.

        Args:
            on_news: called when there is something to `report`.
            on_death: called once it is dead, and perhaps not reaped yet.
        """
        self._on_news, self._on_death = on_news, on_death
        self._selector.watch(self.channel.fileno(), self._on_channel)
        self._output.listen()
        self._watch_death()

    def _watch_death(self) -> None:
        if self._pidfd >= 0 and self._on_death is not None:
            self._selector.watch(self._pidfd, self._on_pidfd)

    def _on_pidfd(self) -> None:
        self._selector.forget(self._pidfd)
        if self._on_death is not None:
            self._on_death()

    def _on_channel(self) -> None:
        if self._on_news is not None:
            self._on_news()
        if self._outbox:
            self._flush()

    # -- giving and taking back -------------------------------------------------------------------

    def send(self, first: int, jobs: Sequence[ClaimedJob]) -> None:
        """Gives jobs to the worker; what does not fit the channel now goes later."""
        self._outbox.append((wire.encode_batch(first, jobs), len(jobs)))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                packet, count = self._outbox[0]
                packets.send(self.channel, packet, packets.DONT_WAIT)
                self._outbox.popleft()
                self._sent += count
                self._permits.give(count)
        except (BlockingIOError, ConnectionError):
            # Full, or the worker is gone: the news of its death is on its way.
            pass
        if bool(self._outbox) is not self._waits_for_room:
            self._waits_for_room = not self._waits_for_room
            events = READABLE | WRITABLE if self._waits_for_room else READABLE
            self._selector.modify(self.channel.fileno(), events)

    def recall(self) -> tuple[Report, int]:
        """Takes back what the worker has not begun; returns a report made after that, and how many.

        The jobs taken back are exactly the last ones sent. The permits go first: once they are
        gone, it does not matter which of the batches the worker still reads.
        """
        taken = sum(count for _, count in self._outbox)
        self._outbox.clear()
        permits = self._permits.take_back()
        unread = self._take_unread_batches()
        unbegun = permits.count(wire.PERMIT)
        taken += unbegun
        self._sent -= unbegun
        if unbegun > unread or wire.VOID in permits:
            # The worker holds a batch whose rest is void now, or was before and it does not know.
            self._permits.void_batch()
        return self.report(), taken

    def _take_unread_batches(self) -> int:
        count = 0
        while True:
            try:
                packet = packets.receive(self._worker_channel, packets.DONT_WAIT)
            except BlockingIOError:
                return count
            if not packet:
                return count
            count += len(wire.decode_batch(packet)[1])

    # -- reading ----------------------------------------------------------------------------------

    def report(self) -> Report:
        """Returns what the worker did since the last report; see also `is_garbled`."""
        try:
            report = self._read()
        except ValueError as error:
            self._garbled(str(error))
            # Whatever has overwritten the status page, it was the job that ran: the next one.
            running = self._done + 1 if self._sent > self._done else 0
            is_known = self._seen.running == running
            started_s = self._seen.started_s if is_known else time.monotonic()
            return Report(done=self._done, running=running, started_s=started_s)
        self._done = report.done
        if report.running:
            self._seen = report
        if self._output.has_new_pipe:
            self._output.listen()
        return report

    def _read(self) -> Report:
        replies: dict[int, Reply] = {}
        while True:
            # In this order: whatever is done by now has sent its reply. And again after each
            # packet: it may be the news of a job done since, and perhaps the last for long.
            done = self._words[wire.DONE]
            if self.is_garbled or not self._receive(replies):
                break
        # A reply may be ahead of DONE: the worker is about to note it, or was killed before. The
        # job is over in either case, and its measures were noted before the reply.
        done = max(done, *replies) if replies else done
        return wire.read_status_page(
            self._words, self._done, most=self._sent, done=done, replies=replies
        )

    def _receive(self, replies: dict[int, Reply]) -> bool:
        """Takes in one packet, a reply into *replies*; says whether there was one."""
        try:
            packet, fds = packets.receive_with(self.channel, 1, packets.DONT_WAIT)
        except (BlockingIOError, ConnectionError):
            return False
        if not packet:
            return False
        try:
            self._take(packet, fds, replies)
        except (ValueError, IndexError, msgspec.MsgspecError) as error:
            self._garbled(str(error))
        return True

    def _take(self, packet: bytes, fds: list[int], replies: dict[int, Reply]) -> None:
        match packet[:1]:
            case wire.REPLY:
                number, reply = wire.decode_reply(packet)
                if not self._done < number <= self._sent:
                    raise ValueError(f"a reply for job {number} of {self._sent}")
                written = self._output.pop(number)
                replies[number] = replace(reply, output=written) if written else reply
            case wire.OUTPUT:
                self._output.leave_to(msgspec.msgpack.decode(packet[1:], type=int), fds[0])
            case wire.READY:
                self.is_ready = True
            case wire.PROBLEM:
                self._problem = packet[1:].decode(errors="replace")
            case wire.STACK:
                self.stack = failure.clean_text(packet[1:], STACK_BYTES_MAX)
            case wire.NEWS:
                pass
            case _:
                raise ValueError(f"a packet that begins with {packet[:1]!r}")

    def _garbled(self, how: str) -> None:
        self.is_garbled = True
        self._problem = f"its job wrote nonsense where it talks to its supervisor: {how}"
        self._selector.forget(self.channel.fileno())
        self.kill()

    @property
    def running(self) -> int:
        """The number of the job that runs, 0 for none."""
        number = self._words[wire.RUNNING]
        return number if number > self._words[wire.DONE] else 0

    def progress(self) -> tuple[int, str | None, str | None]:
        """Returns the number of the running job, and its progress and checkpoint as JSON text.

        The number is 0 if none runs, or if another began while this looked.
        """
        number = self._words[wire.RUNNING]
        told = self._page.progress()
        if self._words[wire.DONE] >= number or self._words[wire.RUNNING] != number:
            return 0, None, None
        return number, *told

    # -- ending -----------------------------------------------------------------------------------

    def ask(self, number: int, request: Request) -> None:
        """Has job *number*, if it is the one that runs, told that it should end."""
        self._words[wire.ASKED] = number << 1 | request
        self._ask()

    def ask_stack(self) -> None:
        """Has the running job's place in its code sent to `stack`, between two instructions."""
        self.stack = None
        self._words[wire.STACK_WANTED] = self.running
        self._ask()

    def _ask(self) -> None:
        # A job may have taken the handler away, or be another program by now: it would die of it.
        if linux.catches(self.pid, ASK_SIGNAL):
            self._signal(ASK_SIGNAL)

    def dismiss(self) -> None:
        """Lets the worker end by itself once it has nothing to do."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def kill_with_stack(self) -> None:
        """Has the worker write its stack and die of it. It may fail to: follow up with `kill`."""
        self._signal(STACK_SIGNAL)
        # A stopped process takes no signal but these two.
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kills the worker, whatever it is doing; the fork server kills what it leaves behind."""
        self._is_killed = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def exit_of(self, ended: WorkerEnded | None, *, problem: str = "") -> Exit:
        """Returns how the process ended.

        Args:
            ended: what the fork server says of it; None if it cannot say anything.
            problem: what else is known.
        """
        code = None if ended is None else ended.code
        progress, checkpoint = self._page.progress()
        return Exit(
            code=code,
            signal=signal_name(code),
            pid=self.pid or None,
            host=self._setup.host,
            supervisor=self._setup.client_id,
            stack=self._page.stack(),
            problem=problem or self._problem,
            usage=Usage() if ended is None else self._usage_of_job(ended),
            output=self._output.last(),
            progress=progress,
            checkpoint=checkpoint,
        )

    def _usage_of_job(self, ended: WorkerEnded) -> Usage:
        before_us, before_system_us = self._words[wire.CPU_US], self._words[wire.SYSTEM_US]
        return Usage(
            cpu_us=max(0, ended.user_us + ended.system_us - before_us),
            system_us=max(0, ended.system_us - before_system_us),
            peak_rss_bytes=ended.peak_rss_bytes,
        )

    def close(self) -> None:
        """Gives back all descriptors. The process must be dead, or never have been."""
        for fd in (self.channel.fileno(), self._pidfd):
            self._selector.forget(fd)
        self._output.close()
        self._page.close()
        self._permits.close()
        self.channel.close()
        self._worker_channel.close()
        for fd in (self._pidfd, self._output_in):
            if fd >= 0:
                os.close(fd)
        self._pidfd = -1
