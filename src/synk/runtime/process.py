"""One worker process, as its supervisor holds it: start, send, read, take back, kill, bury.

Death is seen by a pidfd, never by the end of a stream, which a grandchild may hold open. The exit
status is multiprocessing's business.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
from collections import deque
from multiprocessing import connection as mp_connection
from typing import TYPE_CHECKING, Any, Final

from synk import failure
from synk.core import wire
from synk.core.messages import Exit
from synk.runtime import child, packets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.core.messages import Reply, Report
    from synk.job import ClaimedJob

_STACK_BYTES_MAX: Final = 32 * 1024
_STATUS_WAIT_S: Final = 1.0
"""How long the exit status may take after the death: the forkserver has to reap first."""


class WorkerProcess:
    """A process for one slot, from its start to its burial.

    Args:
        context: multiprocessing's context to make the process with.
        make_setup: gets the three descriptors (channel, permits, page) and returns the `Setup`.
        name: for `ps` and the logs.
    """

    def __init__(
        self,
        context: Any,
        make_setup: Callable[[child.Descriptor, child.Descriptor, child.Descriptor], child.Setup],
        name: str,
    ) -> None:
        self.channel, self._worker_channel = socket.socketpair(
            socket.AF_UNIX, socket.SOCK_SEQPACKET
        )
        self._permits_out, self._permits = os.pipe()
        self._page_fd = os.memfd_create("synk-page")
        os.ftruncate(self._page_fd, wire.PAGE_BYTES)
        # Stacks are written from here on. The offset is shared with the worker's descriptor.
        os.lseek(self._page_fd, wire.PAGE_BYTES, os.SEEK_SET)
        self._page_map = mmap.mmap(self._page_fd, wire.PAGE_BYTES)
        self._page = memoryview(self._page_map).cast("Q")
        # The same pipe opened once more: non-blocking here, while the worker's end blocks.
        self._permits_back = os.open(
            f"/proc/self/fd/{self._permits_out}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )
        self._outbox: deque[tuple[bytes, int]] = deque()
        self._sent = 0
        self._done = 0
        self._problem = ""
        self.is_ready = False
        setup = make_setup(
            child.Descriptor(self._worker_channel.fileno()),
            child.Descriptor(self._permits_out),
            child.Descriptor(self._page_fd),
        )
        self.process = context.Process(target=child.main, args=(setup,), name=name, daemon=False)
        self.process.start()
        self.pid: int = self.process.pid
        self.pidfd = os.pidfd_open(self.pid)

    # -- giving and taking back -----------------------------------------------------------------

    def send(self, first: int, jobs: Sequence[ClaimedJob]) -> None:
        """Gives jobs to the worker; what does not fit the channel now goes later, see `flush`."""
        self._outbox.append((wire.encode_frame(first, jobs), len(jobs)))
        self.flush()

    @property
    def wants_flush(self) -> bool:
        """Whether frames wait for room in the channel."""
        return bool(self._outbox)

    def flush(self) -> None:
        """Sends what waits, as far as the channel takes it."""
        try:
            while self._outbox:
                packet, count = self._outbox[0]
                packets.send(self.channel, packet, socket.MSG_DONTWAIT)
                self._outbox.popleft()
                self._sent += count
                os.write(self._permits, wire.PERMIT * count)
        except (BlockingIOError, ConnectionError):
            # Full, or the worker is gone: its death is on its way by the pidfd.
            return

    def recall(self) -> tuple[Report, int]:
        """Takes back what the worker has not begun; returns a report made after that, and how many.

        Who holds a permit has the job, and a pipe gives each byte to one reader only. So the jobs
        taken back are exactly the last ones sent, however the worker and this race. The permits go
        first: once they are gone, it does not matter which of the frames the worker still reads.
        """
        taken = sum(count for _, count in self._outbox)
        self._outbox.clear()
        permits = self._take_permits()
        unread = self._take_unread_frames()
        unbegun = permits.count(wire.PERMIT)
        taken += unbegun
        self._sent -= unbegun
        if unbegun > unread or wire.VOID in permits:
            # The worker holds a frame whose rest is void now, or was before and it does not know.
            os.write(self._permits, wire.VOID)
        return self.report(), taken

    def _take_unread_frames(self) -> int:
        count = 0
        while True:
            try:
                packet = packets.receive(self._worker_channel, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return count
            if not packet:
                return count
            count += len(wire.decode_frame(packet)[1])

    def _take_permits(self) -> bytes:
        taken = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._permits_back, 4096):
                taken += part
        return taken

    # -- listening --------------------------------------------------------------------------------

    def report(self) -> Report:
        """Returns what the worker did since the last report."""
        report = wire.read_page(self._page, self._done)
        replies = self._read_channel()
        latest = max(replies, default=0)
        if replies:
            # A reply may be ahead of DONE: the worker is about to note it, or was killed before.
            # The job is over in either case, and its measures were noted before the reply.
            report = wire.read_page(self._page, self._done, at_least=latest, replies=replies)
        self._done = report.done
        return report

    def _read_channel(self) -> dict[int, Reply]:
        replies: dict[int, Reply] = {}
        while True:
            try:
                packet = packets.receive(self.channel, socket.MSG_DONTWAIT)
            except (BlockingIOError, ConnectionError):
                return replies
            if not packet:
                return replies
            match packet[:1]:
                case wire.REPLY:
                    number, reply = wire.decode_reply(packet)
                    replies[number] = reply
                case wire.READY:
                    self.is_ready = True
                case wire.PROBLEM:
                    self._problem = packet[1:].decode(errors="replace")
                case _:
                    pass

    # -- ending -----------------------------------------------------------------------------------

    def dismiss(self) -> None:
        """Lets the worker end by itself once it has nothing to do."""
        with contextlib.suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def kill_with_stack(self) -> None:
        """Has the worker write its stack and die of it. It may fail to: follow up with `kill`."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGUSR2)

    def kill(self) -> None:
        """Kills the worker and its process group, whatever it is doing."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def bury(self) -> Exit:
        """Kills what the dead worker left in its process group; returns how it ended."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        mp_connection.wait([self.process.sentinel], _STATUS_WAIT_S)
        code = self.process.exitcode
        name = signal.Signals(-code).name if code is not None and code < 0 else None
        stack = os.pread(self._page_fd, _STACK_BYTES_MAX, wire.PAGE_BYTES).decode(errors="replace")
        return Exit(
            code=code,
            signal=name,
            pid=self.pid,
            stack=failure.clean_text(_without_machinery(stack), _STACK_BYTES_MAX),
            problem=self._problem,
        )

    def close(self) -> None:
        """Gives back all descriptors. The process must be dead."""
        self._page.release()
        self._page_map.close()
        self.channel.close()
        self._worker_channel.close()
        for fd in (self._permits, self._permits_out, self._permits_back, self._page_fd, self.pidfd):
            os.close(fd)
        self.process.close()


def _without_machinery(stack: str) -> str:
    """Returns faulthandler's text without the frames below the handler, which are always the same.

    The most recent call comes first, so a thread's part ends for the reader at our own module.
    """
    kept: list[str] = []
    skipping = False
    for line in stack.splitlines():
        if not line.startswith("  File "):
            skipping = line.startswith("Extension modules:")
        elif f'{child.__file__}"' in line:
            skipping = True
        if not skipping:
            kept.append(line)
    return "\n".join(kept).strip()
