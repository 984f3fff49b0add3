"""Exceptions that are hard to carry from a worker to a row, and handlers that raise them."""

# ruff: noqa: N818 - the exceptions are named after what is wrong with them

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import synk


class KeywordOnly(Exception):
    def __init__(self, *, request: str, response: object) -> None:
        super().__init__(f"{request} failed")
        self.response = response


class ManyArguments(Exception):
    def __init__(self, one: int, two: int, three: int) -> None:
        super().__init__(one, two, three)


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class HoldsLock(Exception):
    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class HoldsGenerator(Exception):
    def __init__(self) -> None:
        super().__init__("holds a generator")
        self.generator = (number for number in range(3))


class ReduceRaises(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("cannot be pickled")


class StrRaises(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class StrExits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class StrGivesNumber(Exception):
    def __str__(self) -> Any:
        return 7  # noqa: PLE0307 - on purpose


class StrIsHuge(Exception):
    def __str__(self) -> str:
        return "x" * 1_000_000


class TrickyStr(str):
    __slots__ = ()

    def __getitem__(self, key: object) -> Any:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class StrIsTricky(Exception):
    def __str__(self) -> str:
        return TrickyStr("tricky")


class ReprRaises(Exception):
    def __repr__(self) -> str:
        raise RuntimeError


class StrAsksItself(Exception):
    def __str__(self) -> str:
        return str(self)


class NotesRaise(Exception):
    @property
    def __notes__(self) -> list[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError


class NotesAreText(Exception):
    __notes__ = "one text"  # pyright: ignore[reportAssignmentType]


class EndlessList(list[str]):
    def __iter__(self) -> Iterator[str]:
        while True:
            yield "again"


class NotesAreHostile(Exception):
    __notes__ = EndlessList(["first", TrickyStr("second"), StrRaises(), 5, "n" * 1_000_000])  # pyright: ignore[reportArgumentType]


class CauseRaises(Exception):
    @property
    def __cause__(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError


class CauseIsEndless(Exception):
    @property
    def __cause__(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return CauseIsEndless("one more")


class CauseIsText(Exception):
    __cause__ = "because"  # pyright: ignore[reportAssignmentType]


class TracebackIsText(Exception):
    __traceback__ = "File 1"  # pyright: ignore[reportAssignmentType]


class AttributesRaise(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class HostileMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__"):
            raise RuntimeError(name)
        return super().__getattribute__(name)


class NamelessClass(Exception, metaclass=HostileMeta):
    pass


class OwnGroup(ExceptionGroup[Exception]):
    pass


class MembersRaise(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:
        raise RuntimeError


def _local_class() -> Exception:
    class Local(Exception):
        pass

    return Local("made in a function")


def _unicode_error() -> Exception:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


HARD_TO_CARRY: list[Callable[[], BaseException]] = [
    lambda: ValueError("plain"),
    lambda: OSError(2, "No such file", "/srv/\udcff"),
    lambda: KeyError("quoted"),
    lambda: SyntaxError("bad", ("/etc/passwd", 1, 1, "text")),
    _unicode_error,
    lambda: SystemExit(1),
    KeyboardInterrupt,
    lambda: StopIteration(5),
    lambda: KeywordOnly(request="GET /", response=object()),
    lambda: ManyArguments(1, 2, 3),
    _local_class,
    lambda: Slotted(5),
    HoldsLock,
    HoldsGenerator,
    lambda: ReduceRaises("text"),
    StrRaises,
    StrExits,
    StrGivesNumber,
    StrIsHuge,
    StrIsTricky,
    ReprRaises,
    StrAsksItself,
    NotesRaise,
    NotesAreText,
    NotesAreHostile,
    CauseRaises,
    CauseIsEndless,
    CauseIsText,
    TracebackIsText,
    AttributesRaise,
    lambda: NamelessClass("nameless"),
    lambda: OwnGroup("own", [ValueError("member")]),
    lambda: MembersRaise("raises", [ValueError("member")]),
    lambda: ValueError(StrRaises(), [StrExits()]),
    lambda: ValueError("\x00 \ud800 \x1b[2J \x7f \x9b"),
]


class StrNeverEnds(Exception):
    def __str__(self) -> str:
        while not self.__traceback__ or self.args == ():
            pass
        return "at last"


@dataclass
class Raise(synk.JobArgs, kind="raise"):
    """Raises the exception of this number."""

    number: int


@synk.worker
def raise_it(job: synk.Job[Raise]) -> None:
    exception = HARD_TO_CARRY[job.args.number]()
    raise exception


@dataclass
class NeverSay(synk.JobArgs, kind="never_say"):
    pass


@synk.worker(timeout=timedelta(seconds=1))
def never_say(job: synk.Job[NeverSay]) -> None:
    raise StrNeverEnds


RESULTS: dict[str, Any] = {
    "nul": "a\x00b",
    "escaped nul": "a\\u0000b",
    "surrogate": "a\ud800b",
    "escape": "\x1b[2J",
    "umlauts": "ü" * 40_000,
    "number": 10**5000,
    "infinite": {"a": [float("-inf")]},
    "largest": "x" * (64 * 1024 - 2),
    "too large": "x" * (64 * 1024 - 1),
    "keys": {(1, 2): 3},
    "numbers as keys": {1: 2},
}


@dataclass
class Give(synk.JobArgs, kind="give"):
    """Returns the result of this name."""

    name: str


@synk.worker
def give(job: synk.Job[Give]) -> Any:
    return RESULTS[job.args.name]


TIMEOUTS = {
    "none": None,
    "the longest": timedelta(days=30),
    "too long": timedelta(days=30, microseconds=1),
    "endless": timedelta.max,
    "negative": timedelta.min,
    "number": 5,
}
RETRIES = {
    "none": None,
    "at once": datetime(1, 1, 1, tzinfo=timezone.utc),
    "before the first day": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=12))),
    "on the last day": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=timezone.utc),
    "after the last day": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
    "naive": datetime(2026, 1, 1),  # noqa: DTZ001 - that is what is wrong with it
    "number": 5,
}


@dataclass
class Extreme(synk.JobArgs, kind="extreme"):
    """Names a timeout and a time for the next attempt, and fails."""

    timeout: str = "none"
    retry: str = "none"


class Extremist(synk.Worker[Extreme]):
    def timeout(self, job: synk.Job[Extreme]) -> Any:
        return TIMEOUTS[job.args.timeout]

    def next_retry(self, job: synk.Job[Extreme], error: BaseException) -> Any:
        return RETRIES[job.args.retry]

    def work(self, job: synk.Job[Extreme]) -> None:
        raise RuntimeError("as asked")


@dataclass
class SayFar(synk.JobArgs, kind="say_far"):
    pass


@synk.worker
def say_far(job: synk.Job[SayFar]) -> None:
    raise ValueError("日本")


WORKERS = [raise_it, never_say, give, say_far, Extremist()]
