"""What passes between a worker and its supervisor: batches of jobs down, reports up.

Nothing here ever waits for the worker, and what is taken back it has not begun; see `core.wire`.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from synk.core import wire
from synk.core.messages import Report
from synk.remote_traceback.text import clean_text
from synk.runtime.ipc import packets
from synk.runtime.supervisor.permits import Permits
from synk.runtime.supervisor.selector import READABLE, WRITABLE
from synk.runtime.supervisor.status_page import STACK_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from synk.claim import ClaimedJob
    from synk.core.messages import Reply
    from synk.runtime.supervisor.job_output import Outputs
    from synk.runtime.supervisor.selector import Selector


class JobChannel:
    """The channel and the permits of one worker.

    Args:
        words: of the worker's status page.
        output: gets the pipes that the worker sends.
        selector: says when the worker has sent something, once `listen` was called.
        on_nonsense: called when the worker has said what no worker says.
    """

    def __init__(
        self,
        words: memoryview,
        output: Outputs,
        selector: Selector,
        on_nonsense: Callable[[], None],
    ) -> None:
        self.socket, self.worker_socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.permits = Permits()
        self._words = words
        self._output = output
        self._selector = selector
        self._on_nonsense = on_nonsense
        self._on_news: Callable[[], None] | None = None
        self._outbox: deque[tuple[bytes, int]] = deque()
        """Batches that wait for room, and how many jobs each has."""
        self._waits_for_room = False
        self._sent = self._done = 0
        """The numbers of the last job sent, and of the last one that was reported as done."""
        self._seen = Report()
        """The last report that told of a running job."""
        self.is_ready = False
        """Whether the worker has said that it can run jobs."""
        self.is_garbled = False
        """Whether it has said what no worker says, so that nothing more is believed of it."""
        self.problem = ""
        """Why it cannot run jobs, or no more of them, as it said or was found out."""
        self.stack: str | None = None
        """Where its job was when it was last asked, once it has answered."""

    def listen(self, on_news: Callable[[], None]) -> None:
        """Has *on_news* called from now on when there is something to `report`."""
        self._on_news = on_news
        self._selector.watch(self.socket.fileno(), self._on_ready)

    def _on_ready(self) -> None:
        if self._on_news is not None:
            self._on_news()
        if self._outbox:
            self._flush()

    # -- giving and taking back -------------------------------------------------------------------

    def send(self, first: int, jobs: Sequence[ClaimedJob], cpus: Sequence[int] = ()) -> None:
        """Gives jobs to the worker; what does not fit the channel now goes later."""
        self._outbox.append((wire.encode_batch(first, jobs, cpus), len(jobs)))
        self._flush()

    def _flush(self) -> None:
        try:
            while self._outbox:
                packet, count = self._outbox[0]
                packets.send(self.socket, packet, packets.DONT_WAIT)
                self._outbox.popleft()
                self._sent += count
                self.permits.give(count)
        except (BlockingIOError, ConnectionError):
            # Full, or the worker is gone: the news of its death is on its way.
            pass
        if bool(self._outbox) is not self._waits_for_room:
            self._waits_for_room = not self._waits_for_room
            events = READABLE | WRITABLE if self._waits_for_room else READABLE
            self._selector.modify(self.socket.fileno(), events)

    def may_begin_until(self, time_s: float) -> None:
        """Has the worker begin no job after this time, by the monotonic clock."""
        self._words[wire.BEGIN_UNTIL_NS] = max(1, int(time_s * 1e9))

    def recall(self) -> tuple[Report, int]:
        """Takes back what the worker has not begun; returns a report made after that, and how many.

        The jobs taken back are exactly the last ones sent. The permits go first: once they are
        gone, it does not matter which of the batches the worker still reads.
        """
        taken = sum(count for _, count in self._outbox)
        self._outbox.clear()
        permits = self.permits.take_back()
        unread = self._take_unread_batches()
        unbegun = permits.count(wire.PERMIT)
        taken += unbegun
        self._sent -= unbegun
        if unbegun > unread or wire.VOID in permits:
            # The worker holds a batch whose rest is void now, or was before and it does not know.
            self.permits.void_batch()
        return self.report(), taken

    def _take_unread_batches(self) -> int:
        count = 0
        while True:
            try:
                packet = packets.receive(self.worker_socket, packets.DONT_WAIT)
            except BlockingIOError:
                return count
            if not packet:
                return count
            count += len(wire.decode_batch(packet).jobs)

    def shut(self) -> None:
        """Gives nothing more: the worker ends by itself once it has read what there is."""
        self.socket.shutdown(socket.SHUT_WR)

    # -- reading ----------------------------------------------------------------------------------

    @property
    def has_more_done(self) -> bool:
        """Whether the worker has done something since the last report."""
        return self.is_ready and self._words[wire.DONE] > self._done

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
        self._done = self._words[wire.SEEN] = report.done
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
            packet, fds = packets.receive_with(self.socket, 1, packets.DONT_WAIT)
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
                replies[number] = msgspec.structs.replace(reply, output=written)
            case wire.OUTPUT:
                self._output.leave_to(msgspec.msgpack.decode(packet[1:], type=int), fds[0])
            case wire.READY:
                self.is_ready = True
            case wire.PROBLEM:
                self.problem = packet[1:].decode(errors="replace")
            case wire.STACK:
                self.stack = clean_text(packet[1:], STACK_BYTES_MAX)
            case wire.NEWS:
                pass
            case _:
                raise ValueError(f"a packet that begins with {packet[:1]!r}")

    def _garbled(self, how: str) -> None:
        self.is_garbled = True
        self.problem = f"its job wrote nonsense where it talks to its supervisor: {how}"
        self._selector.forget(self.socket.fileno())
        self._on_nonsense()

    def close(self) -> None:
        """Gives back all descriptors."""
        self._selector.forget(self.socket.fileno())
        self.socket.close()
        self.worker_socket.close()
        self.permits.close()
