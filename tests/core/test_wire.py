from __future__ import annotations

import datetime as dt

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.pool_world import job
from synk.core import wire
from synk.core.messages import Reply


def page(**words: int) -> memoryview:
    memory = memoryview(bytearray(wire.STATUS_PAGE_BYTES)).cast("Q")
    for name, value in words.items():
        memory[getattr(wire, name)] = value
    return memory


def note(memory: memoryview, number: int, wall_us: int, cpu_us: int) -> None:
    place = wire.ring_place(number)
    memory[place], memory[place + 1] = wall_us, cpu_us


def test_a_frame_brings_its_jobs_back_in_order() -> None:
    jobs = [job(7), job(8, kind="other", priority=1)]

    batch = wire.decode_batch(wire.encode_batch(41, jobs))
    first, encoded = batch.first, batch.jobs

    assert first == 41
    assert [wire.decode_job(one) for one in encoded] == jobs


def test_a_frame_names_the_cpus_of_its_jobs_if_it_has_some() -> None:
    without = wire.decode_batch(wire.encode_batch(1, [job(1)]))
    with_two = wire.decode_batch(wire.encode_batch(1, [job(1)], (0, 3)))

    assert (without.cpus, with_two.cpus) == ((), (0, 3))


@given(args=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_arguments_pass_through_a_frame_unchanged(args: str) -> None:
    encoded = wire.decode_batch(wire.encode_batch(1, [job(1, args=args)])).jobs

    assert wire.decode_job(encoded[0]).args == args


@given(
    number=st.integers(1, 2**62),
    result=st.none() | st.just('{"a": 1}'),
    error=st.none() | st.just('{"error": "x"}'),
    retry_at=st.none() | st.datetimes(timezones=st.just(dt.timezone.utc)),
)
def test_a_reply_comes_back_as_it_was(
    number: int, result: str | None, error: str | None, retry_at: dt.datetime | None
) -> None:
    reply = Reply(result=result, error=error, retry_at=retry_at, cancelled=True, checkpoint=result)

    packet = wire.encode_reply(number, reply)

    assert packet[:1] == wire.REPLY
    assert wire.decode_reply(packet) == (number, reply)


@given(garbage=st.binary(max_size=200))
def test_garbage_is_no_reply_and_breaks_nothing(garbage: bytes) -> None:
    try:
        number, reply = wire.decode_reply(wire.REPLY + garbage)
    except ValueError:
        return
    assert isinstance(number, int)
    assert isinstance(reply, Reply)


def test_a_damaged_job_does_not_damage_its_neighbours() -> None:
    encoded = wire.decode_batch(wire.encode_batch(1, [job(1), job(2)])).jobs

    with pytest.raises(msgspec.MsgspecError):
        wire.decode_job(b"\xc1")
    assert wire.decode_job(encoded[1]).id == 2


def test_an_untouched_page_says_that_nothing_happened() -> None:
    report = wire.read_status_page(page(), 0, most=0, done=0)

    assert (report.done, list(report.measures), report.running) == (0, [], 0)


def test_a_page_tells_the_running_job_its_start_and_its_timeout() -> None:
    memory = page(RUNNING=4, DONE=3, STARTED_NS=5_000_000_000, TIMEOUT_NS=1_500_000_000)
    memory[wire.SOFT_NS], memory[wire.RSS_MAX] = 1_000_000_000, 5_000_000

    report = wire.read_status_page(memory, 3, most=9, done=3)

    assert (report.running, report.started_s, report.timeout_s) == (4, 5.0, 1.5)
    assert (report.soft_s, report.rss_max) == (1.0, 5_000_000)


def test_a_finished_job_is_not_running() -> None:
    assert wire.read_status_page(page(RUNNING=4, DONE=4), 4, most=4, done=4).running == 0


def test_measures_survive_the_turn_of_the_ring() -> None:
    last = wire.RING_JOBS + 5
    memory = page(DONE=last, RUNNING=last)
    for number in range(wire.RING_JOBS - 5, last + 1):
        note(memory, number, number * 10, number)

    report = wire.read_status_page(memory, wire.RING_JOBS - 6, most=2 * wire.RING_JOBS, done=last)

    assert report.measures[0] == ((wire.RING_JOBS - 5) * 10, wire.RING_JOBS - 5, 0, 0)
    assert report.measures[-1] == (last * 10, last, 0, 0)
    assert len(report.measures) == 11


def test_a_reply_ahead_of_the_page_counts_as_done() -> None:
    memory = page(DONE=2, RUNNING=3)
    note(memory, 3, 30, 3)

    report = wire.read_status_page(memory, 2, most=4, done=3, replies={3: Reply(error="{}")})

    assert (report.done, report.running, list(report.measures)) == (3, 0, [(30, 3, 0, 0)])


def test_what_is_done_since_the_replies_were_read_is_not_told_yet() -> None:
    """Its reply may be on the way: without it a failure would pass for a success."""
    memory = page(DONE=5, RUNNING=6)

    report = wire.read_status_page(memory, 2, most=9, done=3)

    assert (report.done, len(report.measures), report.running) == (3, 1, 6)


def test_a_page_behind_an_earlier_report_does_not_go_backwards() -> None:
    report = wire.read_status_page(page(DONE=2, RUNNING=3), 3, most=3, done=2)

    assert (report.done, list(report.measures)) == (3, [])


@pytest.mark.parametrize("words", [{"DONE": 10}, {"RUNNING": 10}, {"DONE": 2**64 - 1}])
def test_a_page_that_tells_of_jobs_that_were_never_sent_is_refused(words: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="the status page tells of job"):
        wire.read_status_page(page(**words), 3, most=9, done=words.get("DONE", 3))
