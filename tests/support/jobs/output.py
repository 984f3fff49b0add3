"""Jobs that write to stdout and stderr, in every way there is."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.jobs.acts import ActJob, deed


@deed
def print_text(job: ActJob) -> None:
    print(job.args.text)


@deed
def print_in_every_way(job: ActJob) -> None:
    libc = ctypes.CDLL(None)
    print("by print")
    print("to stderr", file=sys.stderr)
    logging.getLogger("job").warning("by logging")
    libc.puts(b"by puts")
    libc.printf(b"by %s\n", b"printf")
    os.write(1, b"by write\n")
    subprocess.run(["sh", "-c", "echo by a child; echo and its stderr >&2"], check=True)
    if job.args.text:
        os.kill(os.getpid(), signal.SIGKILL)


@deed
def print_unfinished_line(job: ActJob) -> None:
    sys.stdout.write("no end of line")


@deed
def print_and_hang(job: ActJob) -> None:
    print("the last words")
    time.sleep(1000)


@deed
def print_flood(job: ActJob) -> str:
    """Writes *number* MB, and numbers the lines."""
    line = "x" * 90
    for n in range(job.args.number * 10_000):
        print(f"{n:09}{line}")
    return "written"


@deed
def draw_bar(job: ActJob) -> None:
    """Draws a bar *number* times, byte for byte so that every border of parts occurs."""
    os.write(1, b"begin\n")
    for n in range(job.args.number):
        for byte in f"\r{n:6} \u2588\u2588 of {job.args.number}".encode():
            os.write(1, bytes([byte]))
    os.write(1, job.args.text.encode())


@deed
def draw_nested_bars(job: ActJob) -> None:
    from tqdm import tqdm

    print("begin")
    for _ in tqdm(range(300), desc="outer", mininterval=0):
        for _ in tqdm(range(3), desc="inner", position=1, leave=False, mininterval=0):
            pass
    print("end")


@deed
def draw_short_over_long(job: ActJob) -> None:
    os.write(1, b"abcdef\rxyz\nlong line\r\x1b[Kshort\nwindows\r\n12345\r67")


@deed
def print_for_ever(job: ActJob) -> None:
    while True:
        print("x" * 99)


@deed
def print_characters(job: ActJob) -> None:
    """More than is kept, of characters of three bytes each."""
    print("\u20ac" * 10_000)


@deed
def write_bytes(job: ActJob) -> None:
    os.write(1, b"before\x00\xff\xfeafter\n")


@deed
def close_stdout(job: ActJob) -> None:
    match job.args.text:
        case "stream":
            sys.stdout.close()
        case "descriptor":
            os.close(1)
        case _:
            fd = os.open("/dev/null", os.O_WRONLY)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)


@deed
def leave_a_writer(job: ActJob) -> None:
    """Its child writes to the same stdout when the next job runs."""
    program = f"while [ ! -e {job.args.path} ]; do sleep 0.01; done; echo from the child"
    subprocess.Popen(["sh", "-c", program])
    print("from the first")


@deed
def let_the_writer_write(job: ActJob) -> None:
    print("from the second")
    Path(job.args.path).touch()
    time.sleep(0.2)
