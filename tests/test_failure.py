"""What a failed attempt leaves behind, made from exceptions that do their worst."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import datetime as dt
import json
import linecache
import math
import os
import re
import subprocess
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.jobs.hostile import (
    HARD_TO_CARRY,
    NotesAreHostile,
    OwnGroup,
    Slotted,
    StrRaises,
    _unicode_error,
)
from synk.errors import RemoteError
from synk.failure import (
    AttemptError,
    Cause,
    from_exception,
)
from synk.remote_traceback.capturing import capture
from synk.remote_traceback.formatting import format_exception
from synk.remote_traceback.text import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable

RECORD_BYTES_MAX = 64 * 1024
STORABLE = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")


# --- helpers -------------------------------------------------------------------------------------


def _caught(action: Callable[[], object]) -> BaseException:
    try:
        action()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def _raised(make: Callable[[], BaseException]) -> BaseException:
    def handler() -> None:
        raise make()

    return _caught(handler)


def _stored(error: AttemptError) -> AttemptError:
    text = error.to_json()
    assert STORABLE.fullmatch(text)
    assert len(text.encode()) <= RECORD_BYTES_MAX
    return AttemptError.from_dict(json.loads(text, parse_constant=pytest.fail))


def _shown(error: AttemptError) -> str:
    return "".join(traceback.format_exception(_stored(error).as_exception()))


def _nested_group(depth: int) -> BaseException:
    group: Any = ValueError("innermost")
    for level in range(depth):
        group = ExceptionGroup(f"level {level}", [group])
    return group


def _charge_card() -> None:
    raise KeyError("card")


def _place_order() -> None:
    try:
        _charge_card()
    except KeyError as error:
        error.add_note("order 17")
        raise ValueError("no order") from error


def _ship_all() -> None:
    members = [_caught(_place_order), _caught(_charge_card), ExceptionGroup("late", [OSError("x")])]
    raise BaseExceptionGroup("shipping", members)


def _handle_while_failing() -> None:
    try:
        _place_order()
    except ValueError:
        _ship_all()


def _hostile_record(**changes: object) -> dict[str, object]:
    frame = {"file": "/etc/passwd", "line": 1, "function": "work", "module": "os", "text": ""}
    return {"type": "Boom", "module": "shutil", "message": "m", "frames": [frame], **changes}


# --- hostile exceptions --------------------------------------------------------------------------


@pytest.mark.parametrize("make", HARD_TO_CARRY)
def test_p1_any_exception_is_recorded_stored_and_rebuilt(make: Callable[[], BaseException]) -> None:
    error = from_exception(_raised(make), attempt=1)

    stored = _stored(error)
    assert stored.error
    assert stored.exception == error.exception
    assert isinstance(stored.as_exception(), BaseException)
    assert "\n" not in stored.error
    assert len(stored.error) <= 4096


def test_p3_an_exception_whose_str_raises_is_still_recorded() -> None:
    error = from_exception(_raised(StrRaises), attempt=3)

    assert error.type == "support.jobs.hostile.StrRaises"
    assert error.error.endswith("<str() of StrRaises failed: ZeroDivisionError>")
    assert ", in handler\n" in error.trace


def test_p3_a_huge_message_keeps_its_start_and_end_and_says_what_is_missing() -> None:
    message = capture(ValueError("start" + "x" * 1_000_000 + "end")).get("message", "")

    assert len(message) <= 4096
    assert re.fullmatch(r"startx+\[… 99\d{4} characters left out …\]x+end", message)


def test_p3_hostile_notes_are_read_one_by_one() -> None:
    notes = capture(NotesAreHostile()).get("notes", [])

    assert notes[:2] == ["first", "second"]
    assert notes[2] == "<str() of StrRaises failed: ZeroDivisionError>"
    assert notes[3] == "5"
    assert len(notes[4]) <= 1024


def test_p3_at_most_ten_notes_are_kept() -> None:
    exception = ValueError("x")
    for number in range(100):
        exception.add_note(f"note {number}")

    assert capture(exception).get("notes") == [f"note {number}" for number in range(10)]


def test_x8_local_variables_are_never_recorded() -> None:
    def handler(secret: str) -> None:
        copy = [secret]
        raise ValueError(len(copy))

    canary = f"canary-{id(object())}"
    error = from_exception(_caught(lambda: handler(canary)), attempt=1)

    assert canary not in error.to_json()
    assert canary not in _shown(error)


# --- deep and wide -------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1000, 100_000])
def test_p2_a_recursion_error_keeps_its_first_20_and_last_80_frames(limit: int) -> None:
    def down(level: int) -> None:
        down(level + 1)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(limit)
    try:
        exception = _caught(lambda: down(0))
    finally:
        sys.setrecursionlimit(before)
    error = from_exception(exception, attempt=1)

    assert error.exception is not None
    frames = error.exception.get("frames", [])
    assert [frame["function"] for frame in frames[:3]] == ["_caught", "<lambda>", "down"]
    assert len(frames) == 100
    assert error.exception.get("omitted", 0) > limit - 300
    assert "[Previous line repeated 77 more times]" in error.trace
    assert "frames left out" in _shown(error)


def test_p2_a_cause_that_is_the_exception_itself_ends_the_chain() -> None:
    exception = ValueError("round")
    exception.__cause__ = exception

    record = capture(exception)
    assert "cause" not in record
    assert "left_out" not in record


def test_p2_a_circle_of_causes_is_shown_once() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert format_exception(capture(first)).count("ValueError:") == 2


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_p2_a_chain_of_ten_thousand_links_is_followed_ten_links_far(link: str) -> None:
    exception = ValueError(0)
    for number in range(1, 10_000):
        later = ValueError(number)
        setattr(later, link, exception)
        exception = later
    error = from_exception(exception, attempt=1)

    assert error.trace.count("ValueError:") == 11
    assert "1 more linked or grouped exception(s) left out" in _shown(error)
    while exception is not None:  # taken apart link by link: freeing it at once would recurse
        following = getattr(exception, link)
        setattr(exception, link, None)
        exception = following


def test_p2_groups_are_followed_five_levels_deep() -> None:
    error = from_exception(_nested_group(10_000), attempt=1)

    assert re.findall(r"level \d+", error.trace) == [f"level {9_999 - depth}" for depth in range(6)]
    assert "1 more linked or grouped exception(s) left out" in error.trace


def test_p2_a_group_keeps_fifty_members_and_counts_the_rest() -> None:
    record = capture(ExceptionGroup("wide", [ValueError(number) for number in range(1000)]))

    assert len(record.get("exceptions", [])) == 50
    assert record.get("left_out") == 950


def test_groups_of_groups_keep_fifty_members_in_total() -> None:
    groups = [ExceptionGroup("in", [ValueError(n) for n in range(30)]) for _ in range(30)]

    trace = format_exception(capture(ExceptionGroup("out", groups)))

    assert trace.count("ValueError:") + trace.count("ExceptionGroup: in") == 50


def test_the_cause_of_a_wide_group_is_not_crowded_out() -> None:
    members = [_caught(_place_order) for _ in range(100)]
    group = BaseExceptionGroup("wide", members)
    group.__cause__ = OSError("the reason")

    assert "OSError: the reason" in format_exception(capture(group))


def test_skipped_frames_are_the_outermost_ones() -> None:
    record = capture(_caught(_charge_card), skip_frames=1)

    assert [frame["function"] for frame in record.get("frames", [])] == ["_charge_card"]


# --- text ----------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters()), st.integers(0, 200))
@example("\x1b" * 100, 50)
@example("a\x00b\ud83d\ude00c\x85\u2028", 100)
def test_p4_any_text_becomes_storable_and_cleaning_it_again_changes_nothing(
    text: str, limit: int
) -> None:
    cleaned = clean_text(text, limit)

    assert STORABLE.fullmatch(cleaned)
    assert len(cleaned) <= limit
    assert clean_text(cleaned, limit) == cleaned
    assert json.loads(json.dumps(cleaned, ensure_ascii=False).encode()) == cleaned


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters()))
def test_p4_an_exception_with_any_text_survives_the_round_trip(text: str) -> None:
    exception = _raised(lambda: ValueError(text))
    exception.__notes__ = [text]
    error = from_exception(exception, attempt=1, output=text, host=text)

    rebuilt = _stored(error).as_exception()
    assert isinstance(rebuilt, ValueError)
    assert str(rebuilt) == clean_text(text, 4096)


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("a\x00b", "a\u2400b"),
        ("\ud800", "\ufffd"),
        ("\x1b[2J\r\n\t\x7f\x9b", "\\x1b[2J\\x0d\n\t\\x7f\\x9b"),
        (b"\xff!", "\ufffd!"),
        (12, "12"),
    ],
)
def test_p4_characters_that_databases_and_terminals_choke_on_are_replaced(
    raw: object, clean: str
) -> None:
    assert clean_text(raw, 100) == clean


# --- the trace -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [_charge_card, _place_order, _ship_all, _handle_while_failing],
)
def test_the_trace_is_what_python_prints_but_for_the_carets(action: Callable[[], object]) -> None:
    exception = _caught(action)

    lines = "".join(traceback.format_exception(exception)).splitlines()
    assert format_exception(capture(exception)).splitlines() == [
        line for line in lines if not re.fullmatch(r"[ |]*[~^]+", line)
    ]


def test_a_suppressed_context_is_kept_but_not_printed() -> None:
    def handler() -> None:
        try:
            _charge_card()
        except KeyError:
            raise ValueError("hidden") from None

    error = from_exception(_caught(handler), attempt=1)

    rebuilt = _stored(error).as_exception()
    assert "KeyError" not in error.trace
    assert rebuilt.__suppress_context__
    assert isinstance(rebuilt.__context__, KeyError)


def test_a_long_trace_keeps_its_start_and_its_end() -> None:
    notes = ["n" * 1000] * 10
    chain: BaseException | None = None
    for number in range(11):
        link = ValueError(f"number {number} " + "x" * 4000)
        link.__notes__, link.__cause__ = notes, chain
        chain = link
    assert chain is not None

    trace = format_exception(capture(chain))

    assert len(trace) <= 32 * 1024
    assert trace.startswith("ValueError: number 0")
    assert "characters left out" in trace
    assert trace.endswith("n\n")


# --- rebuilt -------------------------------------------------------------------------------------


def test_a_rebuilt_exception_shows_remote_functions_causes_notes_groups_and_source() -> None:
    shown = _shown(from_exception(_caught(_handle_while_failing), attempt=1))

    assert f'  File "<remote {__file__}>", line ' in shown
    for function in ("_charge_card", "_place_order", "_ship_all", "_handle_while_failing"):
        assert f", in {function}\n" in shown
    assert 'raise ValueError("no order") from error\n' in shown
    assert "order 17\n" in shown
    assert "The above exception was the direct cause of the following exception:" in shown
    assert "During handling of the above exception, another exception occurred:" in shown
    assert "ExceptionGroup: shipping (3 sub-exceptions)" in shown
    assert "ExceptionGroup: late (1 sub-exception)" in shown
    assert "^" not in shown


def test_a_rebuilt_exception_can_be_raised_and_caught_by_its_class() -> None:
    error = _stored(from_exception(_caught(_place_order), attempt=1))

    with pytest.raises(ValueError, match="no order") as caught:
        raise error.as_exception()
    assert isinstance(caught.value.__cause__, KeyError)
    assert str(caught.value.__cause__) == "'card'"
    assert caught.traceback[-1].name == "_place_order"


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(builtins).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and not issubclass(value, (UnicodeError, BaseExceptionGroup))
    ],
)
def test_x1_built_in_classes_are_rebuilt_as_themselves_except_those_that_end_a_process_or_loop(
    name: str,
) -> None:
    cls = vars(builtins)[name]
    rebuilt = AttemptError(attempt=1, error="x", exception=capture(cls("text"))).as_exception()

    controls = (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration)
    assert type(rebuilt) is (RemoteError if issubclass(cls, controls) else cls)
    assert "text" in str(rebuilt)


def test_classes_that_a_text_does_not_make_become_remote_errors_with_the_full_text() -> None:
    rebuilt = _stored(from_exception(_unicode_error(), attempt=1)).as_exception()

    assert isinstance(rebuilt, RemoteError)
    assert rebuilt.type_name == "UnicodeDecodeError"
    assert rebuilt.message == str(_unicode_error())


def test_other_classes_become_remote_errors_and_other_groups_plain_groups() -> None:
    own = _stored(from_exception(_raised(lambda: Slotted(7)), attempt=1)).as_exception()
    group = _stored(from_exception(OwnGroup("g", [ValueError("v")]), attempt=1)).as_exception()

    assert isinstance(own, RemoteError)
    assert (own.type_name, own.message) == ("support.jobs.hostile.Slotted", "7")
    assert type(group) is ExceptionGroup
    assert group.message == "support.jobs.hostile.OwnGroup: g"
    assert isinstance(group.exceptions[0], ValueError)


def test_a_killed_attempt_becomes_a_remote_error_with_its_trace() -> None:
    error = AttemptError(attempt=2, error="timeout after 3 s", trace="stack", cause=Cause.TIMEOUT)

    rebuilt = _stored(error).as_exception()
    assert isinstance(rebuilt, RemoteError)
    assert str(rebuilt) == "synk.timeout: timeout after 3 s"
    assert rebuilt.__notes__ == ["stack"]


def test_x9_formatting_a_record_that_names_local_files_opens_none_of_them() -> None:
    opened: list[object] = []
    listening = [True]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if listening and event in ("open", "import"):
            opened.append(arguments[0])

    error = AttemptError.from_dict({"attempt": 1, "error": "x", "exception": _hostile_record()})
    linecache.clearcache()
    sys.addaudithook(hook)
    try:
        shown = "".join(traceback.format_exception(error.as_exception()))
        trace = format_exception(_hostile_record())
    finally:
        listening.clear()

    assert opened == []
    assert '"<remote /etc/passwd>", line 1, in work' in shown
    assert '"/etc/passwd", line 1, in work' in trace
    for line in Path("/etc/passwd").read_text(encoding="utf-8").splitlines():
        assert line not in shown + trace


def test_x9_an_interpreter_that_dies_of_a_rebuilt_exception_prints_no_local_file() -> None:
    code = (
        "import json, sys; from synk.failure import AttemptError\n"
        "raise AttemptError.from_dict(json.load(sys.stdin)).as_exception()"
    )
    record = {"attempt": 1, "error": "x", "exception": _hostile_record()}
    process = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(record),
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )

    assert "RemoteError: shutil.Boom: m" in process.stderr
    assert '"<remote /etc/passwd>", line 1, in work' in process.stderr
    assert Path("/etc/passwd").read_text(encoding="utf-8").splitlines()[0] not in process.stderr


def test_x9_source_lines_of_rebuilt_exceptions_stay_bounded() -> None:
    frame = {"line": 3, "function": "f", "module": "m", "text": "code()"}
    for number in range(600):
        record = _hostile_record(frames=[{**frame, "file": f"/made/up/{number}.py"}])
        AttemptError.from_dict({"exception": record}).as_exception()
    huge = _hostile_record(frames=[{**frame, "file": "/made/up/huge.py", "line": 2**31}])
    AttemptError.from_dict({"exception": huge}).as_exception()

    remote = [name for name in linecache.cache if name.startswith("<remote ")]
    assert len(remote) <= 256
    assert "<remote /made/up/599.py>" in remote
    assert "<remote /made/up/huge.py>" not in remote


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"type": 5, "module": None, "message": ["m"], "notes": "n", "frames": {"a": 1}},
        _hostile_record(frames=[5, None, {}, {"line": -1}, {"line": "7"}, {"line": 10**400}]),
        _hostile_record(frames=[{}] * 5000, omitted=-3, left_out="many"),
        _hostile_record(type="__import__", module="builtins"),
        _hostile_record(type="Exception", module="builtins", cause=5, context=[], exceptions={}),
        _hostile_record(exceptions=[1, None, {"type": "KeyboardInterrupt", "module": "builtins"}]),
        _hostile_record(type="x\ny\x1b", module="\x00", message="\ud800", notes=[None, {}]),
    ],
)
def test_x1_a_malformed_record_is_read_as_far_as_it_goes(record: dict[str, object]) -> None:
    error = AttemptError.from_dict({"attempt": 1, "error": "x", "exception": record})

    shown = _shown(error)
    assert STORABLE.fullmatch(shown)
    assert len(shown) < 100_000


def test_a_record_nested_deeper_than_any_limit_is_read() -> None:
    record: Any = _hostile_record()
    for _ in range(20_000):
        record = _hostile_record(cause=record, exceptions=[_hostile_record()])
    error = AttemptError.from_dict({"attempt": 1, "error": "x", "exception": record})

    assert "left out" in _shown(error)
    while record:  # taken apart level by level: freeing it at once would recurse
        record = record.pop("cause", {})


# --- the stored record ---------------------------------------------------------------------------


def test_every_field_survives_the_round_trip() -> None:
    error = dataclasses.replace(
        from_exception(
            _caught(_handle_while_failing),
            attempt=4,
            cause=Cause.DECODE,
            exit_code=-11,
            signal="SIGSEGV",
            duration_s=1.5,
            cpu_s=0.25,
            peak_rss_bytes=2**40,
            output="line 1\nline 2\n",
            pid=77,
            host="worker-1",
            supervisor="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        ),
        at=dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC),
    )

    assert _stored(error) == error


def test_what_is_none_or_empty_is_left_out() -> None:
    assert AttemptError(attempt=1, error="boom", output="", exit_code=0).to_dict() == {
        "attempt": 1,
        "error": "boom",
        "cause": "exception",
        "exit_code": 0,
    }


def test_a_row_of_the_go_original_is_read() -> None:
    row = {"at": "2024-05-01T12:00:00.123456789Z", "attempt": 2, "error": "boom", "trace": "go 1"}

    error = AttemptError.from_dict(row)

    assert error == AttemptError(
        at=dt.datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=dt.UTC),
        attempt=2,
        error="boom",
        trace="go 1",
    )
    assert str(error.as_exception()) == "synk.exception: boom"


@pytest.mark.parametrize("value", ["boom", None, 5, ["a"], True, 1.5, StrRaises()])
def test_a_row_that_holds_no_object_becomes_the_error_text(value: object) -> None:
    error = AttemptError.from_dict(value)

    assert error.attempt == 0
    assert error.error == clean_text(value, 4096)


def test_fields_of_another_type_get_their_default_and_unknown_ones_are_ignored() -> None:
    row: dict[str, object] = {
        "attempt": "two",
        "error": None,
        "trace": None,
        "cause": ["odd"],
        "at": "yesterday",
        "pid": 1.5,
        "exit_code": True,
        "duration_s": "long",
        "cpu_s": math.nan,
        "peak_rss_bytes": 10**30,
        "host": 7,
        "exception": "none",
        "from_the_future": {"a": 1},
    }

    assert AttemptError.from_dict(row) == AttemptError(attempt=0, error="")
    assert AttemptError.from_dict({"cause": "interrupted"}).cause is Cause.EXCEPTION


@pytest.mark.parametrize("text", ["x", "\N{GRINNING FACE}", '"', "\n", "\x00", "\x1b"])
def test_p5_a_record_stays_under_64_kib_whatever_is_huge(text: str) -> None:
    huge = text * 1_000_000
    exception = _caught(_handle_while_failing)
    exception.__notes__ = [huge] * 20
    error = dataclasses.replace(
        from_exception(exception, attempt=9, output=huge, host=huge, supervisor=huge),
        trace=huge,
        error=huge,
        type=huge,
        signal=huge,
    )

    stored = _stored(error)
    assert stored.attempt == 9
    assert stored.trace
    assert stored.output


def test_frames_are_given_up_before_the_trace() -> None:
    def down(level: int) -> None:
        if level:
            down(level - 1)
        else:
            _handle_while_failing()

    members = [_caught(lambda: down(120)) for _ in range(4)]
    error = from_exception(BaseExceptionGroup("many", members), attempt=1, output="o" * 10_000)

    stored = _stored(error)
    assert stored.truncated
    assert stored.exception is not None
    assert stored.trace == error.trace
    assert stored.error == error.error


def test_a_record_of_huge_parts_everywhere_still_names_its_error() -> None:
    members = [_raised(lambda: ValueError("\N{GRINNING FACE}" * 4096)) for _ in range(60)]
    error = from_exception(BaseExceptionGroup("many", members), attempt=1)

    stored = _stored(error)
    assert stored.truncated
    assert stored.error == error.error


def test_values_that_json_cannot_hold_are_dropped() -> None:
    error = AttemptError(
        attempt=1, error="x", duration_s=math.nan, cpu_s=math.inf, peak_rss_bytes=10**5000, pid=-1
    )

    assert json.loads(error.to_json()) == {
        "attempt": 1,
        "error": "x",
        "cause": "exception",
        "pid": -1,
    }


def test_an_attempt_error_of_wrong_types_still_gives_a_record() -> None:
    class Unreadable(dt.datetime):
        def isoformat(self, sep: str = "T", timespec: str = "auto") -> str:
            raise RuntimeError

    error = AttemptError(at=Unreadable(2026, 1, 1, tzinfo=dt.UTC), attempt=5, error="x")

    assert json.loads(error.to_json())["error"] == "error while reporting error"
    assert json.loads(error.to_json())["attempt"] == 5
    with contextlib.suppress(RuntimeError):
        error.to_dict()
