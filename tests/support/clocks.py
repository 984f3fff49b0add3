"""Clocks that a test sets, in processes of their own: the wall clock, and the one of sleep.

A small library, loaded before the C library's own, adds to what the kernel says. So every part of
a process sees a clock that is wrong, or is set while it runs: Python, libpq, PostgreSQL.
"""

from __future__ import annotations

import mmap
import shutil
import stat
import struct
import subprocess
from pathlib import Path
from typing import Final

from support import needs

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile double *added;

__attribute__((constructor)) static void begin(void) {
    int fd = open(FILE_OF_CLOCKS, O_RDONLY | O_CLOEXEC);
    void *place = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    added = place == MAP_FAILED ? NULL : place;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, id, time);
    double seconds = 0;
    if (result || !added) return result;
    if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) seconds = added[0];
    if (id == CLOCK_BOOTTIME) seconds = added[1];
    long whole = (long) floor(seconds);
    time->tv_sec += whole;
    time->tv_nsec += (long) ((seconds - whole) * 1e9);
    if (time->tv_nsec >= 1000000000) { time->tv_nsec -= 1000000000; time->tv_sec++; }
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *now) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    if (now) *now = time.tv_sec;
    return time.tv_sec;
}
"""


class Clocks:
    """The clocks of the processes that are started with `environment`.

    Args:
        folder: every user may enter it.
    """

    def __init__(self, folder: Path) -> None:
        compiler = needs.program("cc")
        self._file = folder / "clocks"
        self._file.write_bytes(bytes(4096))
        self._file.chmod(0o644)
        self._library = folder / "clocks.so"
        (folder / "clocks.c").write_text(_SOURCE)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O1", f'-DFILE_OF_CLOCKS="{self._file}"', "-o",
             str(self._library), str(folder / "clocks.c"), "-lm"],
            check=True,
        )  # fmt: skip
        self._library.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see these clocks, and all that it starts."""
        return {"LD_PRELOAD": str(self._library)}

    def set(self, *, wall_s: float = 0.0, sleep_s: float = 0.0) -> None:
        """Sets the wall clock off by so much, and lets so much time pass as if asleep."""
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as page:
            page[:16] = struct.pack("dd", wall_s, sleep_s)

    def binaries(self, folder: Path) -> Path:
        """Makes PostgreSQL's programs for a server that sees these clocks."""
        postgres = needs.postgres15()
        folder.mkdir(mode=0o755)
        for name in ("initdb", "pg_ctl"):
            shutil.copy(postgres.parent / name, folder / name)
        script = f'#!/bin/sh\nLD_PRELOAD={self._library} exec {postgres} "$@"\n'
        (folder / "postgres").write_text(script)
        (folder / "postgres").chmod(stat.S_IRWXU | 0o055)
        return folder
