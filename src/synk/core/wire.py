"""What passes between a supervisor and a worker: batches of jobs, replies, and the status page.

Three things tie a worker process to its supervisor, and no other process has them:

* the *channel*, a pair of SOCK_SEQPACKET sockets: batches of jobs down, replies up. A packet is
  whole or not there. The supervisor keeps the worker's end too, and can read back what the worker
  has not read;
* the *permits*, a pipe: one byte is leave to begin one job. Who has the byte has the job, so that
  taking bytes back is taking back exactly the last of the jobs sent;
* the *status page*, shared memory: which job the worker runs since when, which are done, what each
  took, and what the job notes of its progress. It says the truth also after a SIGKILL. The
  supervisor writes five words of it, the worker all others.

A worker that has more to do wakes its supervisor only when it has done half of what may be at hand,
by time or by number. What is done and not told is on the page: it is read whenever the supervisor
is awake, and at the latest when the worker seems to be stuck, is recalled or is gone.

Bytes of arguments pass through as they came from the database. What comes up is JSON and numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from synk.claim import ClaimedJob
from synk.core.messages import Reply, Report
from synk.core.progress_cell import ProgressCell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from synk.core.messages import Measure

# -- the status page: 64-bit words, a ring of measures, what the job notes, room for stacks -------

RUNNING: Final = 0
"""Word: the number of the job begun last."""
DONE: Final = 1
"""Word: the number of the job finished last. A job runs if RUNNING is above it."""
STARTED_NS: Final = 2
"""Word: when the job begun last began, CLOCK_MONOTONIC."""
TIMEOUT_NS: Final = 3
"""Word: its timeout as its worker named it; 0: the queue's."""
SOFT_NS: Final = 4
"""Word: its soft time limit as its worker named it; 0: none."""
RSS_MAX: Final = 5
"""Word: the memory in bytes that it may use as its worker named it; 0: what the queue says."""
CPU_US: Final = 6
"""Word: the CPU time that the process had used when the job began, in microseconds."""
SYSTEM_US: Final = 7
"""Word: the part of that in the kernel."""
ASKED: Final = 8
"""Word, written by the supervisor: the job that is asked something, times 2, plus the request."""
OUTPUT_READ: Final = 9
"""Word, set by the supervisor before it reads the job's output, cleared by the worker when it
begins a new pipe."""
STACK_WANTED: Final = 10
"""Word, written by the supervisor: the job whose place in the code somebody wants to see."""
PIPES_LEFT: Final = 11
"""Word: how many pipes the worker has left to jobs that are over, by packets of `OUTPUT`."""
SEEN: Final = 12
"""Word, written by the supervisor: the number of the last job that it knows to be done."""
BEGIN_UNTIL_NS: Final = 13
"""Word, written by the supervisor: until when jobs may begin, CLOCK_MONOTONIC; 0: at any time. It
is when the lease is over, which others rely on, also if the supervisor stands still then."""

RING_JOBS: Final = 1024
"""Jobs whose measures the ring holds: twice the most that may be at a worker."""
RING_WORDS: Final = 4
"""Of each job: wall, CPU, system in microseconds, and the peak of resident memory in bytes."""
RING: Final = 16
"""Where the ring begins."""
WORDS_BYTES: Final = (RING + RING_WORDS * RING_JOBS) * 8

PROGRESS_BYTES_MAX: Final = 1024
CHECKPOINT_BYTES_MAX: Final = 64 * 1024
PROGRESS_AT: Final = WORDS_BYTES
CHECKPOINT_AT: Final = PROGRESS_AT + ProgressCell.size(PROGRESS_BYTES_MAX)
STATUS_PAGE_BYTES: Final = CHECKPOINT_AT + ProgressCell.size(CHECKPOINT_BYTES_MAX)
"""All that is mapped; faulthandler's stacks are written to the file behind it."""


def ring_place(number: int) -> int:
    """Returns the first word of a job's measures."""
    return RING + RING_WORDS * (number % RING_JOBS)


# -- permits --------------------------------------------------------------------------------------

PERMIT: Final = b"\x01"
"""Leave to begin the next job of the batch."""
VOID: Final = b"\x00"
"""The rest of the batch was taken back: drop it."""

# -- packets --------------------------------------------------------------------------------------

PACKET_BYTES_MAX: Final = 128 * 1024
"""A larger packet might not fit the socket's buffer (208 KiB by default); its body goes into a
memory file, whose descriptor is sent instead."""

READY: Final = b"R"
NEWS: Final = b"N"
PROBLEM: Final = b"P"
REPLY: Final = b"A"
OUTPUT: Final = b"O"
STACK: Final = b"T"
"""The first byte of a packet from a worker: it is ready; look at the status page; it cannot start,
or must be replaced (and why); a reply; the pipe that it wrote to belongs to a job that is over, and
another comes with this; where its job is, as it was asked."""

# -- the exit statuses of a worker ----------------------------------------------------------------

FORK_RETURNED: Final = 70
"""The job forked, and this is the child that came back from it."""
CHANNEL_LOST: Final = 71
"""The job closed the channel's descriptor."""

_encode = msgspec.msgpack.Encoder().encode
_decode_reply = msgspec.msgpack.Decoder(tuple[int, Reply]).decode


def encode_batch(first: int, jobs: Sequence[ClaimedJob], cpus: Sequence[int] = ()) -> bytes:
    """Returns the packet for *jobs*, which are numbered from *first* on and run on *cpus*."""
    return _encode((first, jobs, cpus) if cpus else (first, jobs))


def read_status_page(
    words: memoryview,
    after: int,
    *,
    most: int,
    done: int,
    replies: dict[int, Reply] | None = None,
) -> Report:
    """Returns what the status page says of the jobs that come after number *after*, up to *done*.

    What counts as done is not read here: DONE must be looked at before the channel is read for
    replies, or the reply of a job that is finished in between would be missed. Nothing of a job
    after *done* is told but that one runs. The worker writes while this reads: it is read again
    until two looks agree.

    Args:
        words: the status page.
        after: the number of the last job that is settled.
        most: the number of the last job that was sent.
        done: what DONE said before the channel was read, or the last reply if that is more.
        replies: what the channel brought.

    Raises:
        ValueError: it tells of jobs beyond *most*: something has overwritten it.
    """
    while True:
        running = words[RUNNING]
        started_ns, timeout_ns = words[STARTED_NS], words[TIMEOUT_NS]
        soft_ns, rss_max = words[SOFT_NS], words[RSS_MAX]
        if words[RUNNING] == running:
            break
    if done > most or running > most:
        raise ValueError(f"the status page tells of job {max(done, running)} of {most}")
    done = max(done, after)
    return Report(
        done=done,
        measures=_measures(words, after, done),
        replies=replies or {},
        running=running if running > done else 0,
        started_s=started_ns / 1e9,
        timeout_s=timeout_ns / 1e9 if timeout_ns else None,
        soft_s=soft_ns / 1e9 if soft_ns else None,
        rss_max=rss_max or None,
    )


def _measures(words: memoryview, after: int, done: int) -> list[Measure]:
    """Returns the measures of the jobs after number *after* up to *done*, the oldest first."""
    if done == after:
        return []
    first, last = ring_place(after + 1), ring_place(done) + RING_WORDS
    if first < last:
        flat = words[first:last].tolist()
    else:
        flat = words[first : RING + RING_WORDS * RING_JOBS].tolist() + words[RING:last].tolist()
    each = iter(flat)
    return list(zip(each, each, each, each, strict=True))


class Batch(msgspec.Struct, array_like=True, gc=False):
    """What a packet from the supervisor holds; the jobs are still encoded."""

    first: int
    jobs: list[msgspec.Raw]
    cpus: tuple[int, ...] = ()
    """Those that the jobs run on; empty: what their queues say."""


decode_batch = msgspec.msgpack.Decoder(Batch).decode

decode_job = msgspec.msgpack.Decoder(ClaimedJob).decode
"""Returns one job of a batch."""


def encode_reply(number: int, reply: Reply) -> bytes:
    """Returns the packet that says how a job ended."""
    return REPLY + _encode((number, reply))


def decode_reply(packet: bytes) -> tuple[int, Reply]:
    """Returns the job's number and the reply of a packet that begins with `REPLY`.

    Raises:
        ValueError: the packet is not a reply.
    """
    try:
        return _decode_reply(memoryview(packet)[1:])
    except msgspec.MsgspecError as problem:
        raise ValueError(f"not a reply: {problem}") from None
