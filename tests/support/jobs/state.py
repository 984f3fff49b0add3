"""Jobs that change their process, and jobs that look whether it is as it was."""

from __future__ import annotations

import contextvars
import decimal
import faulthandler
import locale
import os
import resource
import signal
import sys
import tempfile
import threading

from support.jobs.acts import ActJob, deed

SPOILS = [
    "folder",
    "lost folder",
    "umask",
    "handler",
    "own handlers",
    "mask",
    "locale",
    "decimal",
    "virtual timer",
    "profiling timer",
    "alarm",
    "descriptors",
    "core size",
    "nice value",
    "cpus",
    "stdout",
    "context",
    "dump later",
    "crash dump",
    "wakeup descriptor",
]


TENANT = contextvars.ContextVar("TENANT", default="nobody")

LIMITS = [name for name in dir(resource) if name.startswith("RLIMIT_")]


def _ignored(_signal: int, _frame: object) -> None:
    pass


@deed
def spoil(job: ActJob) -> dict[str, str]:  # noqa: C901, PLR0912, PLR0915 - one case for each
    match job.args.text:
        case "folder":
            os.chdir("/usr")
        case "lost folder":
            folder = tempfile.mkdtemp()
            os.chdir(folder)
            os.rmdir(folder)  # noqa: PTH106 - as the line above
        case "umask":
            os.umask(0o777)
        case "handler":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, _ignored)
        case "own handlers":
            for number in (signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 5):
                signal.signal(number, _ignored)
        case "mask":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        case "locale":
            other = "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8"
            locale.setlocale(locale.LC_ALL, other)
        case "decimal":
            decimal.getcontext().prec = 5
        case "virtual timer":
            signal.setitimer(signal.ITIMER_VIRTUAL, 1000)
        case "profiling timer":
            signal.setitimer(signal.ITIMER_PROF, 1000)
        case "alarm":
            signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
        case "descriptors":
            resource.setrlimit(resource.RLIMIT_NOFILE, (512, _hard(resource.RLIMIT_NOFILE)))
        case "core size":
            resource.setrlimit(resource.RLIMIT_CORE, (4096, _hard(resource.RLIMIT_CORE)))
        case "nice value":
            os.nice(3)
        case "cpus":
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        case "stdout":
            sys.stdout = sys.stderr
        case "context":
            TENANT.set("left behind")
        case "dump later":
            faulthandler.dump_traceback_later(1000, exit=True)
        case "crash dump":
            faulthandler.disable()
        case "wakeup descriptor":
            signal.set_wakeup_fd(_nowhere())
        case other:
            raise AssertionError(other)
    return _state()


def _nowhere() -> int:
    fd = os.open(os.devnull, os.O_WRONLY)
    os.set_blocking(fd, False)
    return fd


def _wakeup_fd() -> int:
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    return fd


def _hard(limit: int) -> int:
    return resource.getrlimit(limit)[1]


@deed
def look(job: ActJob) -> dict[str, str]:
    return _state()


def _state() -> dict[str, str]:
    try:
        folder = os.getcwd()  # noqa: PTH109 - what Python itself asks
    except FileNotFoundError:
        folder = "none"
    mask = os.umask(0)
    os.umask(mask)
    timers = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    left_s, again_s = signal.getitimer(signal.ITIMER_REAL)
    state = {
        "folder": folder,
        "umask": mask,
        "handlers": {n: _name(signal.getsignal(n)) for n in signal.valid_signals()},
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal": decimal.getcontext(),
        "timers": [signal.getitimer(timer) for timer in timers],
        # What ends the process if its supervisor should not: far away.
        "alarm": (left_s > 10, again_s),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in LIMITS],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "stdout": sys.stdout is sys.stderr,
        "context": TENANT.get(),
        # The thread that waits for its time is none of Python's.
        "tasks": len(os.listdir("/proc/self/task")) - threading.active_count(),  # noqa: PTH208 - a count
        "crash dump": faulthandler.is_enabled(),
        "wakeup descriptor": _wakeup_fd(),
    }
    return {name: str(value) for name, value in state.items()}


def _name(handler: object) -> str:
    return getattr(handler, "__qualname__", str(handler))


@deed
def change_the_interpreter(job: ActJob) -> list[bool]:
    """Changes what is as it was only in a fresh process; says what it found changed."""
    found = [
        "SYNK_TEST_LEFT" in os.environ,
        "/left/behind" in sys.path,
        "left behind" in SPOILS,
    ]
    os.environ["SYNK_TEST_LEFT"] = "1"
    sys.path.append("/left/behind")
    SPOILS.append("left behind")
    return found


@deed
def give_up_privileges(job: ActJob) -> None:
    """Makes itself less important, which only privileged processes can take back."""
    os.nice(3)
    if os.geteuid() == 0:
        os.setuid(65534)
