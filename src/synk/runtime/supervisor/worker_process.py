"""One worker process, as its supervisor holds it: made for a slot, heard, asked, killed.

The process itself is forked, and reaped, by the fork server. Nothing here ever waits for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from synk.core import wire
from synk.core.messages import Exit
from synk.runtime.ipc import linux
from synk.runtime.supervisor.fork_server_process import signal_name
from synk.runtime.supervisor.job_channel import JobChannel
from synk.runtime.supervisor.job_output import Outputs
from synk.runtime.supervisor.status_page import StatusPage
from synk.runtime.worker.stack import ASK_SIGNAL, STACK_SIGNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from synk.claim import ClaimedJob
    from synk.core.messages import Request
    from synk.runtime.ipc.setup import Setup
    from synk.runtime.supervisor.fork_server_process import WorkerEnded
    from synk.runtime.supervisor.output_lines import StderrWriter
    from synk.runtime.supervisor.selector import Selector


class WorkerProcess:
    """A process for one slot, from the request for it until it is reaped.

    Args:
        setup: what all workers are told.
        selector: hears of it, once `listen` was called.
        stderr: where its jobs' output goes.
        job_of: says which job has a number, of those that it was sent and that are not over.
    """

    def __init__(
        self,
        setup: Setup,
        selector: Selector,
        stderr: StderrWriter,
        job_of: Callable[[int], ClaimedJob | None] = lambda _: None,
    ) -> None:
        self._setup = setup
        self._selector = selector
        self._page = StatusPage()
        self._words = self._page.words
        reading, self._output_in = os.pipe()
        linux.widen_pipe(reading)
        self._output = Outputs(reading, self._words, selector, stderr, job_of)
        self.channel = JobChannel(self._words, self._output, selector, on_nonsense=self.kill)
        self._is_killed = False
        self.pid, self._pidfd = 0, -1
        """The pid is 0, and nothing can be signalled, before it exists."""
        self._on_exit: Callable[[], None] | None = None

    @property
    def descriptors(self) -> list[int]:
        """What makes a process the slot's worker, in the order that `worker.main` has."""
        return [
            self.channel.worker_socket.fileno(),
            self.channel.permits.worker_fd,
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
        self._watch_exit()

    # -- being heard ------------------------------------------------------------------------------

    def listen(self, on_news: Callable[[], None], on_exit: Callable[[], None]) -> None:
        """Has the selector hear of it from now on.

        Args:
            on_news: called when its channel has something to report.
            on_exit: called once it is dead, and perhaps not reaped yet.
        """
        self._on_exit = on_exit
        self.channel.listen(on_news)
        self._output.listen()
        self._watch_exit()

    def _watch_exit(self) -> None:
        if self._pidfd >= 0 and self._on_exit is not None:
            self._selector.watch(self._pidfd, self._on_pidfd)

    def _on_pidfd(self) -> None:
        self._selector.forget(self._pidfd)
        if self._on_exit is not None:
            self._on_exit()

    # -- what its job does -----------------------------------------------------------------------

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
        """Has the running job tell its place, to `channel.stack`, between two instructions."""
        self.channel.stack = None
        self._words[wire.STACK_WANTED] = self.running
        self._ask()

    def _ask(self) -> None:
        # A job may have taken the handler away, or be another program by now: it would die of it.
        if linux.catches(self.pid, ASK_SIGNAL):
            self._signal(ASK_SIGNAL)

    def dismiss(self) -> None:
        """Lets the worker end by itself once it has nothing to do."""
        with contextlib.suppress(OSError):
            self.channel.shut()

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
            problem=problem or self.channel.problem,
            usage=(0, 0, 0) if ended is None else self._usage_of_job(ended),
            output=self._output.last(),
            progress=progress,
            checkpoint=checkpoint,
        )

    def _usage_of_job(self, ended: WorkerEnded) -> tuple[int, int, int]:
        cpu_us = ended.user_us + ended.system_us - self._words[wire.CPU_US]
        system_us = ended.system_us - self._words[wire.SYSTEM_US]
        return max(0, cpu_us), max(0, system_us), ended.peak_rss_bytes

    def close(self) -> None:
        """Gives back all descriptors. The process must be dead, or never have been."""
        self._selector.forget(self._pidfd)
        self.channel.close()
        self._output.close()
        self._page.close()
        for fd in (self._pidfd, self._output_in):
            if fd >= 0:
                os.close(fd)
        self._pidfd = -1
