from __future__ import annotations

import threading

from synk.telemetry.log import PENDING_MAX, LogThread


class Log:
    """Takes lines once it is read."""

    def __init__(self) -> None:
        self.lines: list[object] = []
        self.is_read = threading.Event()
        self.is_asked = threading.Event()

    def write(self, fact: object) -> None:
        self.is_asked.set()
        self.is_read.wait()
        self.lines.append(fact)

    def thread(self) -> LogThread:
        return LogThread(self.write, tell_dropped=lambda count: self.lines.append(-count))


def test_facts_are_written_in_order_and_flushed() -> None:
    log = Log()
    log.is_read.set()
    thread = log.thread()

    for n in range(500):
        thread(n)
    thread.flush(10)

    assert log.lines == list(range(500))
    assert not [t for t in threading.enumerate() if t.name == "synk-log"]


def test_it_begins_again_after_a_flush() -> None:
    log = Log()
    log.is_read.set()
    thread = log.thread()

    for n in range(3):
        thread(n)
        thread.flush(10)

    assert log.lines == [0, 1, 2]


def test_x11_a_log_that_is_not_read_keeps_nobody_waiting_and_counts_what_it_drops() -> None:
    log = Log()
    thread = log.thread()
    thread("first")
    log.is_asked.wait()

    for n in range(PENDING_MAX + 70):
        thread(n)
    thread.flush(0.05)
    assert log.lines == []
    log.is_read.set()
    thread.flush(10)

    assert log.lines == ["first", -70, *range(PENDING_MAX)]


def test_a_log_that_raises_gets_the_next_fact_all_the_same() -> None:
    lines: list[object] = []

    def write(fact: object) -> None:
        lines.append(fact)
        raise OSError("the disk is full")

    thread = LogThread(write, tell_dropped=lines.append)
    thread(1)
    thread(2)
    thread.flush(10)

    assert lines == [1, 2]


def test_a_flush_of_nothing_returns_at_once() -> None:
    Log().thread().flush(10)
