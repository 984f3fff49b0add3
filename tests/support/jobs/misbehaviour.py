"""Jobs that do to their worker process whatever a job may do to it."""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import itertools
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from support.jobs.acts import ActJob, deed, note
from support.jobs.observation import descriptors_of, wait

# -- ends -----------------------------------------------------------------------------------------


@deed
def os_exit(job: ActJob) -> None:
    os._exit(job.args.number)


@deed
def sys_exit(job: ActJob) -> None:
    sys.exit(job.args.number)


@deed
def keyboard_interrupt(job: ActJob) -> None:
    raise KeyboardInterrupt


@deed
def generator_exit(job: ActJob) -> None:
    raise GeneratorExit


@deed
def kill_self(job: ActJob) -> None:
    """Dies of the signal *number*, whatever it was set to."""
    if job.args.number != signal.SIGKILL:
        signal.signal(job.args.number, signal.SIG_DFL)
    os.kill(os.getpid(), job.args.number)


@deed
def segv(job: ActJob) -> None:
    ctypes.string_at(0)


@deed
def abort(job: ActJob) -> None:
    os.abort()


@deed
def double_free(job: ActJob) -> None:
    """Has the C library abort while it holds a lock of its memory, as it does among threads."""
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    libc = ctypes.PyDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block, _after = (ctypes.c_void_p(libc.malloc(8192)) for _ in range(2))
    for _ in range(2):
        libc.free(block)


@deed
def bus_error(job: ActJob) -> None:
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        file.truncate(0)
        memory[0]


@deed
def segv_on_first_attempt(job: ActJob) -> str:
    if job.attempt == 1:
        ctypes.string_at(0)
    return "well"


# -- hangs ----------------------------------------------------------------------------------------


@deed
def spin(job: ActJob) -> None:
    while True:
        pass


@deed
def hold_gil(job: ActJob) -> None:
    ctypes.PyDLL(None).pause()


@deed
def count_in_c(job: ActJob) -> None:
    """Holds the GIL too, and returns for no signal."""
    sum(itertools.repeat(1))


@deed
def sleep_in_c(job: ActJob) -> None:
    ctypes.CDLL(None).sleep(1000)


@deed
def eight_threads(job: ActJob) -> None:
    for _ in range(8):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    hold_gil(job)


@deed
def many_threads(job: ActJob) -> None:
    """Together their stacks are longer than what is kept of an attempt."""
    thread_leak(job)
    hold_gil(job)


@deed
def segv_among_threads(job: ActJob) -> None:
    thread_leak(job)
    segv(job)


@deed
def ignore_signals(job: ActJob) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    sleep_in_c(job)


@deed
def block_signals(job: ActJob) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    sleep_in_c(job)


@deed
def lose_stack(job: ActJob) -> None:
    """The stack cannot be written: its descriptor is gone, high as it is."""
    os.closerange(3, 4096)
    hold_gil(job)


@deed
def dump_that_crashes(job: ActJob) -> None:
    """Where the stack should be written, the process dies of something else."""
    faulthandler.register(signal.SIGUSR2, file=2, chain=True)
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    hold_gil(job)


@deed
def stop_self(job: ActJob) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@deed
def swallow(job: ActJob) -> None:
    """Takes no notice of whatever is raised in it."""
    while True:
        try:
            time.sleep(0.01)
        except BaseException as error:
            note(job, f"swallowed {type(error).__name__}")


@deed
def import_slowly(job: ActJob) -> object:
    """Imports a module that takes a second, and may be interrupted in it."""
    sys.path[:0] = [] if job.args.path in sys.path else [job.args.path]
    return importlib.import_module(job.args.text).VALUE


@deed
def import_slowly_and_go_on(job: ActJob) -> str:
    try:
        import_slowly(job)
    except BaseException as error:
        note(job, f"caught {type(error).__name__}")
    return "went on"


@deed
def execv_sleep(job: ActJob) -> None:
    os.execv("/bin/sleep", ["sleep", "1000"])  # noqa: S606 - that is the deed


@deed
def finish_when_killed(job: ActJob) -> str:
    """Is done between the decision to kill it and the kill."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.sigwait([signal.SIGUSR2])
    return "done"


# -- descriptors ----------------------------------------------------------------------------------


@deed
def close_all_fds(job: ActJob) -> None:
    """Up to number *number*, as a library does that makes daemons."""
    os.closerange(0, job.args.number)


@deed
def garble_channel(job: ActJob) -> None:
    """Writes *text* into every socket that it finds, and waits."""
    for fd in descriptors_of("socket:"):
        os.write(fd, job.args.text.encode("latin-1"))
    wait(job)


@deed
def garble_page(job: ActJob) -> None:
    """Writes 0xFF all over the memory that it shares with its supervisor."""
    for fd in descriptors_of("/memfd:synk-status-page"):
        os.pwrite(fd, b"\xff" * job.args.number, 0)


@deed
def close_all_fds_and_wait(job: ActJob) -> None:
    os.closerange(0, job.args.number)
    wait(job)


@deed
def descriptor_leak(job: ActJob) -> None:
    for _ in range(job.args.number):
        os.dup(0)


@deed
def thread_leak(job: ActJob) -> None:
    for _ in range(job.args.number):
        threading.Thread(target=threading.Event().wait, daemon=True).start()


@deed
def child_leak(job: ActJob) -> None:
    for _ in range(job.args.number):
        subprocess.Popen(["sleep", "1000"])


# -- children -------------------------------------------------------------------------------------


@deed
def fork_returns(job: ActJob) -> str:
    child = os.fork()
    if child:
        note(job, f"child {child}")
    return "child" if child == 0 else "parent"


@deed
def fork_raises(job: ActJob) -> str:
    if os.fork() == 0:
        raise ValueError("from the child")
    return "parent"


@deed
def fork_and_exit(job: ActJob) -> None:
    """Its child keeps everything open that it inherited."""
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    note(job, f"child {child}")
    os._exit(3)


@deed
def child_plain(job: ActJob) -> None:
    child = subprocess.Popen(["sleep", "1000"])
    note(job, f"child {child.pid}")
    child.wait()


@deed
def crash_with_child(job: ActJob) -> None:
    child = subprocess.Popen(["setsid", "sleep", "1000"])
    note(job, f"child {child.pid}")
    ctypes.string_at(0)


@deed
def child_in_own_group(job: ActJob) -> None:
    child = subprocess.Popen(["sleep", "1000"], process_group=0)
    note(job, f"child {child.pid}")
    child.wait()


@deed
def child_in_own_session(job: ActJob) -> None:
    """Forked twice, a session of its own, and without the environment that would tell of it."""
    program = f"echo child $$ >> {job.args.log}; exec sleep 1000"
    subprocess.run(["env", "-i", "setsid", "--fork", "sh", "-c", program], check=True)
    wait(job)


@deed
def child_that_forks_on(job: ActJob) -> None:
    """A chain of processes, each the child of one that has ended."""
    program = (
        "import os, sys, time\n"
        "while True:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.setsid()\n"
        "    time.sleep(0.002)\n"
    )
    subprocess.Popen([sys.executable, "-c", program])
    wait(job)


# -- memory ---------------------------------------------------------------------------------------


@deed
def eat_memory(job: ActJob) -> None:
    """Takes *number* MB, and waits for its file with them."""
    eaten = bytearray(job.args.number << 20)
    eaten[:: mmap.PAGESIZE] = b"x" * len(eaten[:: mmap.PAGESIZE])
    if job.args.path:
        wait(job)


@deed
def eat_memory_in_child(job: ActJob) -> None:
    program = f"x = b'x' * ({job.args.number} << 20); import time; time.sleep(1000)"
    child = subprocess.Popen([sys.executable, "-c", program])
    note(job, f"child {child.pid}")
    child.wait()


@deed
def share_memory_with_children(job: ActJob) -> None:
    """Takes *number* MB, which three children use as well."""
    eaten = b"x" * (job.args.number << 20)
    children = [os.fork() for _ in range(3)]
    if 0 in children:
        time.sleep(1000)
    note(job, "shared")
    wait(job)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    del eaten


KEPT: list[bytearray] = []


@deed
def keep_memory(job: ActJob) -> None:
    KEPT.append(bytearray(b"x" * (job.args.number << 20)))


# -- results --------------------------------------------------------------------------------------


class ExitsAsText:
    def __str__(self) -> str:  # noqa: PLE0307 - it never returns
        os._exit(5)

    __repr__ = __str__


@deed
def lambda_result(job: ActJob) -> object:
    return lambda: None


@deed
def big_result(job: ActJob) -> str:
    return "x" * job.args.number


@deed
def deep_result(job: ActJob) -> object:
    value: object = None
    for _ in range(100_000):
        value = [value]
    return value


@deed
def circular_result(job: ActJob) -> object:
    value: list[object] = []
    value.append(value)
    return value


@deed
def exiting_result(job: ActJob) -> object:
    return ExitsAsText()


@deed
def exiting_error(job: ActJob) -> None:
    raise ValueError(ExitsAsText())
