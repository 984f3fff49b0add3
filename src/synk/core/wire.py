"""What passes between a supervisor and a worker: frames of jobs, replies, and the page.

Three things tie a worker process to its supervisor, and no other process has them:

* the *channel*, a pair of SOCK_SEQPACKET sockets: frames of jobs down, replies up. A packet is
  whole or not there. The supervisor keeps the worker's end too, and can read back what the worker
  has not read;
* the *permits*, a pipe: one byte is leave to begin one job. Who has the byte has the job, so that
  taking bytes back is taking back exactly the last of the jobs sent;
* the *page*, shared memory that only the worker writes: which job it runs since when, which are
  done, and what each took. It says the truth also after a SIGKILL.

Bytes of arguments pass through as they came from the database. What comes up is JSON and numbers.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

import msgspec

from synk.core.messages import Reply, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.job import ClaimedJob

# -- the page: eight 64-bit words, then a ring of (wall, CPU) in microseconds ----------------------

RUNNING: Final = 0
"""Word: the number of the job begun last."""
DONE: Final = 1
"""Word: the number of the job finished last. A job runs if RUNNING is above it."""
STARTED_NS: Final = 2
"""Word: when the job begun last began, CLOCK_MONOTONIC."""
TIMEOUT_NS: Final = 3
"""Word: its timeout as its worker named it; 0: the queue's."""

RING_JOBS: Final = 512
"""Jobs whose measures the ring holds: twice the most that may be at a worker."""
RING: Final = 8
"""Where the ring begins; job n has the words RING + 2 * (n % RING_JOBS) and the next."""
PAGE_BYTES: Final = (RING + 2 * RING_JOBS) * 8

# -- permits --------------------------------------------------------------------------------------

PERMIT: Final = b"\x01"
"""Leave to begin the next job of the frame."""
VOID: Final = b"\x00"
"""The rest of the frame was taken back: drop it."""

# -- packets --------------------------------------------------------------------------------------

PACKET_BYTES_MAX: Final = 128 * 1024
"""A larger packet might not fit the socket's buffer (208 KiB by default); its body goes into a
memory file, whose descriptor is sent instead."""

READY: Final = b"R"
NEWS: Final = b"N"
PROBLEM: Final = b"P"
REPLY: Final = b"A"
"""The first byte of a packet from a worker: it is ready; look at the page; it cannot start (and
why); a reply."""

_encode = msgspec.msgpack.Encoder().encode
_decode_frame = msgspec.msgpack.Decoder(tuple[int, list[msgspec.Raw]]).decode
_decode_reply = msgspec.msgpack.Decoder(
    tuple[int, str | None, str | None, dt.datetime | None]
).decode


def encode_frame(first: int, jobs: Sequence[ClaimedJob]) -> bytes:
    """Returns the packet for *jobs*, which are numbered from *first* on."""
    return _encode(
        (
            first,
            [
                (
                    job.id,
                    job.attempt,
                    job.kind,
                    job.args,
                    job.queue,
                    job.name,
                    job.priority,
                    job.max_attempts,
                    job.uncounted,
                    job.created_at,
                    job.scheduled_at,
                    job.attempted_at,
                    job.history,
                )
                for job in jobs
            ],
        )
    )


def read_page(
    words: memoryview, after: int, *, at_least: int = 0, replies: dict[int, Reply] | None = None
) -> Report:
    """Returns what the page says of the jobs that come after number *after*.

    Jobs up to *at_least* are known to be done by their replies. The worker writes while this
    reads: it is read again until two looks agree. DONE is looked at
    before the channel is read for replies, so that none of a job that is done can be missing.
    """
    while True:
        done, running = words[DONE], words[RUNNING]
        started_ns, timeout_ns = words[STARTED_NS], words[TIMEOUT_NS]
        if words[DONE] == done and words[RUNNING] == running:
            break
    done = max(done, after, at_least)
    places = [RING + 2 * (number % RING_JOBS) for number in range(after + 1, done + 1)]
    return Report(
        done=done,
        measures=[(words[place], words[place + 1]) for place in places],
        replies=replies or {},
        running=running if running > done else 0,
        started_s=started_ns / 1e9,
        timeout_s=timeout_ns / 1e9 if timeout_ns else None,
    )


def decode_frame(packet: bytes) -> tuple[int, list[msgspec.Raw]]:
    """Returns the first number and the jobs, each still encoded."""
    return _decode_frame(packet)


decode_job = msgspec.msgpack.Decoder(
    tuple[
        int,
        int,
        str,
        str,
        str,
        str,
        int,
        int,
        int,
        dt.datetime,
        dt.datetime,
        dt.datetime,
        str | None,
    ]
).decode
"""Returns the fields of one job of a frame, in the order of `encode_frame`."""


def encode_reply(number: int, reply: Reply) -> bytes:
    """Returns the packet that says how a job ended."""
    return REPLY + _encode((number, reply.result, reply.error, reply.retry_at))


def decode_reply(packet: bytes) -> tuple[int, Reply]:
    """Returns the job's number and the reply of a packet that begins with `REPLY`.

    Raises:
        ValueError: the packet is not a reply.
    """
    try:
        number, result, error, retry_at = _decode_reply(memoryview(packet)[1:])
    except msgspec.MsgspecError as problem:
        raise ValueError(f"not a reply: {problem}") from None
    return number, Reply(result=result, error=error, retry_at=retry_at)
