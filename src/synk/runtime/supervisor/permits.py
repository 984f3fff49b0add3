"""The supervisor's end of a worker's permits: one byte is leave to begin one job.

Who holds the byte has the job, and a pipe gives each byte to one reader only. So what is taken back
here is exactly what the worker has not begun, however the two race.
"""

from __future__ import annotations

import contextlib
import os

from synk.core import wire


class Permits:
    """A pipe whose reading end both the worker and its supervisor have."""

    def __init__(self) -> None:
        self.worker_fd, self._giving = os.pipe()
        # The same pipe opened once more: non-blocking here, while the worker's end blocks.
        self._taking = os.open(
            f"/proc/self/fd/{self.worker_fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        )

    def give(self, count: int) -> None:
        """Gives leave for the next jobs of what was sent."""
        os.write(self._giving, wire.PERMIT * count)

    def take_back(self) -> bytes:
        """Returns the permits that the worker has not taken, which are void now."""
        taken = b""
        with contextlib.suppress(BlockingIOError):
            while part := os.read(self._taking, 4096):
                taken += part
        return taken

    def void_batch(self) -> None:
        """Tells the worker that the rest of the batch that it holds was taken back."""
        os.write(self._giving, wire.VOID)

    def close(self) -> None:
        """Gives back all descriptors."""
        for fd in (self.worker_fd, self._giving, self._taking):
            os.close(fd)
