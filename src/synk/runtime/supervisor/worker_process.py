"""One worker process, as its supervisor holds it: send, read, take back, ask, kill, bury.

The process itself is made, and buried, by the fork server. Nothing here ever waits for it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from synk import failure
from synk.core import stack_text, wire
from synk.core.messages import Exit, Report, Usage
from synk.core.progress_cell import ProgressCell
from synk.runtime.ipc import linux, packets
from synk.runtime.supervisor.fork_server_process import signal_name
from synk.runtime.supervisor.job_output import Outputs, Pipe
from synk.runtime.worker import handler_modules, job_loop
from synk.runtime.worker import main as worker_main
from synk.runtime.worker.restore import STACK_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.claim import ClaimedJob
    from synk.core.messages import Reply, Request
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.fork_server_process import WorkerEnded
    from synk.runtime.supervisor.output_lines import Passer

_STACK_BYTES_MAX: Final = 32 * 1024

_STACKS_BYTES_MAX: Final = 128 * 1024
"""Read of the end of what a worker wrote as it died, which may be of a hundred threads."""

_MACHINERY: Final = (worker_main.__file__, handler_modules.__file__, job_loop.__file__)


class WorkerProcess:
    """A process for one slot, from the request for it to its burial.

    Args:
        setup: what all workers are told.
        passer: where its jobs' output goes.
        job_of: says which job has a number, of those that it was sent and that are not over.
    """

    def __init__(
        self,
        setup: Setup,
        passer: Passer,
        job_of: Callable[[int], ClaimedJob | None] = lambda _: None,
    ) -> None:
        self.channel, self._worker_channel = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._permits_out, self._permits = os.pipe()
        reading, self._output_in = os.pipe()
        linux.widen_pipe(reading)
        self._setup = setup
        self._passer = passer
        self._status_page_fd = os.memfd_create("synk-status-page")
        os.ftruncate(self._status_page_fd, wire.STATUS_PAGE_BYTES)
        # Stacks are written from here on. The offset is shared with the worker's descriptor.
        os.lseek(self._status_page_fd, wire.STATUS_PAGE_BYTES, os.SEEK_SET)
        self._status_page_map = mmap.mmap(self._status_page_fd, wire.STATUS_PAGE_BYTES)
        self._status_page = memoryview(self._status_page_map)[: wire.WORDS_BYTES].cast("Q")
        self._output = Outputs(reading, self._status_page, passer, job_of)
        self._progress = ProgressCell(
            self._status_page_map, wire.PROGRESS_AT, wire.PROGRESS_BYTES_MAX
        )
        self._checkpoint = ProgressCell(
            self._status_page_map, wire.CHECKPOINT_AT, wire.CHECKPOINT_BYTES_MAX
        )
        # The same pipe opened once more: non-blocking here, while the worker's end blocks.
        self._permits_back = os.open(
            f"/proc/self/fd/{self._permits_out}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
        self._outbox: deque[tuple[bytes, int]] = deque()
        self._sent = self._done = 0
        self._problem = ""
        self.is_garbled = False
        """Whether it has said what no worker says, so that nothing more is believed of it."""
        self._seen = Report()
        """The last report that told of a running job."""
        self.stack: str | None = None
        """Where its job was when it was last asked, once it has answered."""
        self.is_ready = False
        self.pid, self.pidfd = 0, -1

    @property
    def descriptors(self) -> list[int]:
        """What makes a process the slot's worker, in the order of `child`."""
        return [
            self._worker_channel.fileno(),
            self._permits_out,
            self._status_page_fd,
            self._output_in,
        ]

    def born(self, pid: int, pidfd: int) -> None:
        """The process exists."""
        self.pid = pid
        self.pidfd = pidfd
        # From now on the pipe ends when its writers do.
        os.close(self._output_in)
        self._output_in = -1

    # -- giving and taking back -----------------------------------------------------------------

    def send(self, first: int, jobs: Sequence[ClaimedJob]) -> None:
        """Gives jobs to the worker; what does not fit the channel now goes later, see `flush`."""
        self._outbox.append((wire.encode_batch(first, jobs), len(jobs)))
        self.flush()

    @property
    def wants_flush(self) -> bool:
        """Whether batches wait for room in the channel."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Sends what waits, as far as the channel takes it."""
        try:
            while self._outbox:
                packet, count = self._outbox[0]
                packets.send(self.channel, packet, packets.DONT_WAIT)
                self._outbox.popleft()
                self._sent += count
                os.write(self._permits, wire.PERMIT * count)
        except (BlockingIOError, ConnectionError):
            # Full, or the worker is gone: the news of its death is on its way.
            return

    def recall(self) -> tuple[Report, int]:
        """Takes back what the worker has not begun; returns a report made after that, and how many.

        Who holds a permit has the job, and a pipe gives each byte to one reader only. So the jobs
        taken back are exactly the last ones sent, however the worker and this race. The permits go
        first: once they are gone, it does not matter which of the batches the worker still reads.
        """
        taken = sum(count for _, count in self._outbox)
        self._outbox.clear()
        permits = self._take_permits()
        unread = self._take_unread_batches()
        unbegun = permits.count(wire.PERMIT)
        taken += unbegun
        self._sent -= unbegun
        if unbegun > unread or wire.VOID in permits:
            # The worker holds a batch whose rest is void now, or was before and it does not know.
            os.write(self._permits, wire.VOID)
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

    def _take_permits(self) -> bytes:
        taken = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._permits_back, 4096):
                taken += part
        return taken

    # -- listening --------------------------------------------------------------------------------

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
        return report

    def _read(self) -> Report:
        replies: dict[int, Reply] = {}
        while True:
            # In this order: whatever is done by now has sent its reply. And again after each
            # packet: it may be the news of a job done since, and perhaps the last for long.
            done = self._status_page[wire.DONE]
            if self.is_garbled or not self._receive(replies):
                break
        # A reply may be ahead of DONE: the worker is about to note it, or was killed before. The
        # job is over in either case, and its measures were noted before the reply.
        done = max(done, *replies) if replies else done
        return wire.read_status_page(
            self._status_page, self._done, most=self._sent, done=done, replies=replies
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
                self.stack = failure.clean_text(packet[1:], _STACK_BYTES_MAX)
            case wire.NEWS:
                pass
            case _:
                raise ValueError(f"a packet that begins with {packet[:1]!r}")

    def _garbled(self, how: str) -> None:
        self.is_garbled = True
        self._problem = f"its job wrote nonsense where it talks to its supervisor: {how}"

    def notes(self) -> tuple[int, str | None, str | None]:
        """Returns the number of the running job, and its progress and checkpoint as JSON text.

        The number is 0 if none runs, or if another began while this looked.
        """
        number = self._status_page[wire.RUNNING]
        progress, checkpoint = _json(self._progress), _json(self._checkpoint)
        if self._status_page[wire.DONE] >= number or self._status_page[wire.RUNNING] != number:
            return 0, None, None
        return number, progress, checkpoint

    @property
    def running(self) -> int:
        """The number of the job that runs, 0 for none."""
        number = self._status_page[wire.RUNNING]
        return number if number > self._status_page[wire.DONE] else 0

    # -- output -----------------------------------------------------------------------------------

    def read_output(self) -> None:
        """Reads what jobs have written. It must have been announced to the worker by then."""
        self._output.read()

    @property
    def outputs(self) -> list[Pipe]:
        """Pipes that may bring more. A report may close some, and bring another."""
        return self._output.pipes

    # -- ending -----------------------------------------------------------------------------------

    def ask(self, number: int, request: Request) -> None:
        """Has job *number*, if it is the one that runs, told that it should end."""
        self._status_page[wire.ASKED] = number << 1 | request
        self._ask()

    def ask_stack(self) -> None:
        """Has the running job's place in its code sent to `stack`, between two instructions."""
        self.stack = None
        self._status_page[wire.STACK_WANTED] = self.running
        self._ask()

    def _ask(self) -> None:
        # A job may have taken the handler away, or be another program by now: it would die of it.
        if linux.catches(self.pid, job_loop.ASK_SIGNAL):
            self._signal(job_loop.ASK_SIGNAL)

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
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def bury(self, ended: WorkerEnded | None, *, problem: str = "") -> Exit:
        """Returns how the process ended.

        Args:
            ended: what the fork server says of it; None if it cannot say anything.
            problem: what else is known.
        """
        code = None if ended is None else ended.code
        progress, checkpoint = _json(self._progress), _json(self._checkpoint)
        return Exit(
            code=code,
            signal=signal_name(code),
            pid=self.pid or None,
            host=self._setup.host,
            supervisor=self._setup.client_id,
            stack=failure.clean_text(self._stack(), _STACK_BYTES_MAX),
            problem=problem or self._problem,
            usage=Usage() if ended is None else self._usage_of_job(ended),
            output=self._output.last(),
            progress=progress,
            checkpoint=checkpoint,
        )

    def _stack(self) -> str:
        # The job's own thread is the last.
        begin = os.fstat(self._status_page_fd).st_size - _STACKS_BYTES_MAX
        part = os.pread(self._status_page_fd, _STACKS_BYTES_MAX, max(wire.STATUS_PAGE_BYTES, begin))
        return stack_text.of_user(part.decode(errors="replace"), _MACHINERY)

    def _usage_of_job(self, ended: WorkerEnded) -> Usage:
        before_us, before_system_us = (
            self._status_page[wire.CPU_US],
            self._status_page[wire.SYSTEM_US],
        )
        return Usage(
            cpu_us=max(0, ended.user_us + ended.system_us - before_us),
            system_us=max(0, ended.system_us - before_system_us),
            peak_rss_bytes=ended.peak_rss_bytes,
        )

    def close(self) -> None:
        """Gives back all descriptors. The process must be dead, or never have been."""
        self._status_page.release()
        self._status_page_map.close()
        self.channel.close()
        self._worker_channel.close()
        self._output.close()
        fds = (self._permits, self._permits_out, self._permits_back, self._status_page_fd)
        for fd in (*fds, self.pidfd, self._output_in):
            if fd >= 0:
                os.close(fd)


def _json(cell: ProgressCell) -> str | None:
    """Returns a cell's text if it is JSON still: anything in the job's process can write there."""
    text = cell.read()
    if text is not None:
        try:
            msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return None
    return text
