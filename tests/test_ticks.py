"""When schedules tick: a year of each zone with odd rules, against a walk over all its minutes."""

from __future__ import annotations

import datetime as dt
import functools
import zoneinfo
from typing import Final

import pytest

import synk
from synk.ticks import CATCH_UP_MAX, NICKNAMES, TICKS_COUNTED, Cron, Every, Rules, delay

UTC: Final = dt.UTC
MINUTE: Final = dt.timedelta(minutes=1)
HOUR: Final = dt.timedelta(hours=1)
DAY: Final = dt.timedelta(days=1)
YEAR: Final = 2026

ZONES: Final = (
    "Europe/Berlin",
    # 45 minutes beside the hour: set forward at 02:45, and back at 03:45.
    "Pacific/Chatham",
    # Set by half an hour.
    "Australia/Lord_Howe",
    # Set by two hours.
    "Antarctica/Troll",
    # Set at midnight.
    "America/Santiago",
)
TEXTS: Final = (
    "30 2 * * *", "15,45 2 * * *", "50 3 * * *", "0 0 * * *", "15 1-4 * * *", "0 23 * * *",
    "45 2,3 * * 0", "0 * * * *", "*/15 2 * * *", "0 */2 * * *", "10 */3 1,15 * 1-5", "*/30 * * * *",
)  # fmt: skip


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def after(text: str, zone: str, moment: str) -> dt.datetime:
    return Cron(text, zone).after(at(moment))


def ticks(ticking: Cron | Every, first: dt.datetime, last: dt.datetime) -> list[dt.datetime]:
    found: list[dt.datetime] = []
    tick = ticking.after(first - MINUTE)
    while tick < last:
        found.append(tick)
        tick = ticking.after(tick)
    return found


# -- the walk: nothing in it is of synk or cronsim ------------------------------------------------


def numbers(field: str, least: int, most: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        body, _, step = part.partition("/")
        first, _, last = body.partition("-")
        if body == "*":
            first, last = str(least), str(most)
        found |= set(range(int(first), int(last or first) + 1, int(step or 1)))
    return found


@functools.cache
def minutes(zone: str) -> list[tuple[dt.datetime, dt.datetime]]:
    """Each minute of the year, and what the clock shows in it."""
    shown = zoneinfo.ZoneInfo(zone)
    first = dt.datetime(YEAR, 1, 1, tzinfo=UTC)
    moments = [first + n * MINUTE for n in range(365 * 24 * 60)]
    return [(each, each.astimezone(shown).replace(tzinfo=None, fold=0)) for each in moments]


def walked(text: str, zone: str) -> list[dt.datetime]:
    minute, hour, day, month, weekday = text.split()
    at_minutes, at_hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
    months = numbers(month, 1, 12)
    days, weekdays = numbers(day, 1, 31), {n % 7 for n in numbers(weekday, 0, 7)}
    are_both = day.startswith("*") or weekday.startswith("*")

    def matches(wall: dt.datetime) -> bool:
        if wall.minute not in at_minutes or wall.hour not in at_hours or wall.month not in months:
            return False
        found = (wall.day in days, wall.isoweekday() % 7 in weekdays)
        return all(found) if are_both else any(found)

    is_as_shown = minute.startswith("*") or hour.startswith("*")
    found: list[dt.datetime] = []
    reached = minutes(zone)[0][1] - MINUTE
    for moment, wall in minutes(zone):
        if is_as_shown:
            if matches(wall):
                found.append(moment)
            continue
        is_due = False
        # What was shown before does not come again; what was passed over comes now.
        while reached < wall:
            reached += MINUTE
            is_due |= matches(reached)
        if is_due:
            found.append(moment)
    return found


@pytest.mark.parametrize("zone", ZONES)
def test_a_year_ticks_as_a_walk_over_its_minutes_finds(zone: str) -> None:
    first, last = minutes(zone)[0][0], minutes(zone)[-1][0] + MINUTE
    for text in TEXTS:
        found = ticks(Cron(text, zone), first, last)
        expected = walked(text, zone)
        assert found == expected, (text, sorted(set(found) ^ set(expected))[:3])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["30 2 * * *", "*/15 * * * *", "0 */2 * * *"])
def test_the_next_tick_is_the_same_from_wherever_one_looks(zone: str, text: str) -> None:
    """A supervisor may start at any minute, also within an hour that comes twice."""
    cron = Cron(text, zone)
    all_ticks = walked(text, zone)
    days = [
        moment
        for moment, _ in minutes(zone)[:: 24 * 60]
        if len({(moment + n * HOUR).astimezone(zoneinfo.ZoneInfo(zone)).utcoffset()
                for n in range(25)}) > 1
    ]  # fmt: skip
    assert len(days) == 2

    for day in days:
        for n in range(-60, 26 * 60, 7):
            moment = day + n * MINUTE
            assert cron.after(moment) == next(t for t in all_ticks if t > moment)


# -- by name --------------------------------------------------------------------------------------


def test_in_the_gap_a_named_time_comes_when_the_clock_is_set_and_in_the_fold_once() -> None:
    gap = after("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00")
    fold = after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00")
    then = Cron("30 2 * * *", "Europe/Berlin").after(fold)

    assert gap == at("2026-03-29T03:00+02:00")
    assert fold == at("2026-10-25T02:30+02:00")
    assert then == at("2026-10-26T02:30+01:00")


def test_from_within_the_second_of_two_hours_no_tick_lies_behind() -> None:
    assert after("30 2 * * *", "Europe/Berlin", "2026-10-25T02:15+01:00") == at(
        "2026-10-26T02:30+01:00"
    )


def test_two_named_times_in_one_gap_are_one_tick() -> None:
    cron = Cron("15,45 2 * * *", "Europe/Berlin")

    first = cron.after(at("2026-03-28T12:00+01:00"))

    assert first == at("2026-03-29T03:00+02:00")
    assert cron.after(first) == at("2026-03-30T02:15+02:00")


def test_an_hourly_tick_comes_in_both_of_two_hours_that_look_the_same() -> None:
    """Of celery issue 10107."""
    first = after("0 * * * *", "US/Pacific", "2026-11-01T07:30+00:00")

    assert first == at("2026-11-01T08:00+00:00")
    assert after("0 * * * *", "US/Pacific", "2026-11-01T08:00+00:00") == at(
        "2026-11-01T09:00+00:00"
    )


@pytest.mark.parametrize(
    ("zone", "text", "last", "expected"),
    [
        ("Pacific/Chatham", "50 3 * * *", "2026-09-26T03:50+12:45", "2026-09-27T03:50+13:45"),
        ("Pacific/Chatham", "50 3 * * *", "2026-04-04T03:50+13:45", "2026-04-05T03:50+12:45"),
        ("Antarctica/Troll", "0 23 * * *", "2026-10-24T23:00+02:00", "2026-10-25T23:00+00:00"),
        # A clock that is set from midnight to one: the day begins at one.
        ("America/Santiago", "0 0 * * *", "2026-09-05T00:00-04:00", "2026-09-06T01:00-03:00"),
        # And one that is set back to eleven in the evening: each date has one midnight.
        ("America/Santiago", "0 0 * * *", "2026-04-04T00:00-03:00", "2026-04-05T00:00-04:00"),
        ("Australia/Lord_Howe", "0 2 * * *", "2026-10-03T02:00+10:30", "2026-10-04T02:30+11:00"),
        ("Australia/Lord_Howe", "45 1 * * *", "2026-04-04T01:45+11:00", "2026-04-05T01:45+11:00"),
        # Rare dates, over a century that has no leap day.
        ("UTC", "0 0 29 2 *", "2096-03-01T00:00+00:00", "2104-02-29T00:00+00:00"),
        # A date that was left out.
        ("Pacific/Apia", "30 9 30 12 *", "2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"),
    ],
)
def test_the_next_tick_after_the_last(zone: str, text: str, last: str, expected: str) -> None:
    """The first three, and others like them, are of celery pull request 10608."""
    assert Cron(text, zone).after(at(last)) == at(expected)


def test_two_named_times_of_chatham_before_and_behind_its_fold() -> None:
    """The clock is set from 03:45 back to 02:45."""
    chatham = zoneinfo.ZoneInfo("Pacific/Chatham")
    cron = Cron("50 2,3 * * *", "Pacific/Chatham")
    days = (at("2026-04-04T12:00Z"), at("2026-04-05T12:00Z"))
    found = [str(each.astimezone(chatham)) for each in ticks(cron, *days)]

    assert found == ["2026-04-05 02:50:00+13:45", "2026-04-05 03:50:00+12:45"]


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_nicknames_tick_as_what_they_stand_for(nickname: str) -> None:
    moment = at("2026-03-28T12:34:56+00:00")

    assert Cron(nickname.upper(), "Europe/Berlin").after(moment) == Cron(
        NICKNAMES[nickname], "Europe/Berlin"
    ).after(moment)


def test_an_interval_is_counted_from_its_beginning_and_knows_no_wall_clock() -> None:
    every = Every(dt.timedelta(hours=5), at("2026-03-28T22:00:00+01:00"))

    assert every.after(at("2026-03-01T00:00+00:00")) == at("2026-03-29T02:00+00:00")
    assert every.after(at("2026-03-29T02:00+00:00")) == at("2026-03-29T07:00+00:00")


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has 0 fields, not five"),
        ("0 30 2 * * *", "has 6 fields, not five"),
        ("* * * *", "has 4 fields"),
        ("60 * * * *", "bad minute"),
        ("x * * * *", "bad minute"),
        ("5-1 * * * *", "bad minute"),
        ("*/0 * * * *", "bad minute"),
        ("*/61 * * * *", "a step of 61 does not fit into a minute"),
        ("0 1,*/24 * * *", "a step of 24 does not fit into a hour"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 */31 2 7#5", "never comes"),
        ("@reboot", "is no nickname"),
        (17, "must be a cron expression, or a timedelta"),
        (None, "must be a cron expression"),
    ],
)
def test_an_expression_that_is_none_or_never_comes_is_refused(text: str, problem: str) -> None:
    with pytest.raises(synk.ConfigurationError, match=problem) as caught:
        Cron(text, "UTC")

    assert (caught.value.field, caught.value.value) == ("cron", text)


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "/etc/localtime", 3, None])
def test_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(synk.ConfigurationError, match="is no time zone") as caught:
        Cron("@daily", zone)

    assert (caught.value.field, caught.value.value) == ("tz", zone)


def test_zones_are_known_without_those_of_the_system() -> None:
    """Slim images have none."""
    before = zoneinfo.TZPATH
    try:
        zoneinfo.reset_tzpath(to=())
        zoneinfo.ZoneInfo.clear_cache()
        assert Cron("@daily", "Antarctica/Troll")
    finally:
        zoneinfo.reset_tzpath(to=before)
        zoneinfo.ZoneInfo.clear_cache()


# -- what becomes of ticks that were missed -------------------------------------------------------

DAILY: Final = Cron("0 2 * * *", "UTC")
FIRST: Final = at("2026-05-01T02:00+00:00")


def rules(missed: str, max_late: dt.timedelta | None = None) -> Rules:
    return Rules(missed=missed, max_late=max_late)


@pytest.mark.parametrize("missed", ["one", "all", "none"])
def test_a_tick_that_is_on_time_is_run(missed: str) -> None:
    plan = rules(missed).plan(DAILY, FIRST, FIRST + dt.timedelta(seconds=2))

    assert plan.run == (FIRST,)
    assert (plan.skipped, plan.next_at) == (0, FIRST + DAY)


def test_of_several_the_newest_is_made_up_for_and_the_others_are_skipped() -> None:
    plan = rules("one").plan(DAILY, FIRST, FIRST + 3 * DAY + HOUR)

    assert plan.run == (FIRST + 3 * DAY,)
    assert (plan.skipped, plan.reason) == (3, "missed")
    assert (plan.first_skipped, plan.last_skipped) == (FIRST, FIRST + 2 * DAY)
    assert plan.next_at == FIRST + 4 * DAY


def test_all_are_made_up_for_in_order_up_to_a_hundred() -> None:
    plan = rules("all").plan(DAILY, FIRST, FIRST + 119 * DAY)

    assert len(plan.run) == CATCH_UP_MAX
    assert plan.run == tuple(FIRST + n * DAY for n in range(20, 120))
    assert (plan.skipped, plan.last_skipped) == (20, FIRST + 19 * DAY)


def test_where_nothing_is_made_up_for_what_is_a_minute_late_is_skipped() -> None:
    plan = rules("none").plan(DAILY, FIRST, FIRST + MINUTE + dt.timedelta(seconds=1))

    assert plan.run == ()
    assert (plan.skipped, plan.first_skipped, plan.last_skipped) == (1, FIRST, FIRST)
    assert plan.reason == "too late"


def test_what_is_later_than_it_may_be_is_skipped() -> None:
    late = rules("one", 6 * HOUR).plan(DAILY, FIRST, FIRST + 7 * HOUR)
    in_time = rules("one", 6 * HOUR).plan(DAILY, FIRST, FIRST + 5 * HOUR)
    some = rules("all", 25 * HOUR).plan(DAILY, FIRST, FIRST + 3 * DAY)

    assert (late.run, late.skipped) == ((), 1)
    assert in_time.run == (FIRST,)
    assert some.run == (FIRST + 2 * DAY, FIRST + 3 * DAY)


def test_five_hours_of_a_schedule_by_the_minute_are_one_job() -> None:
    """Of Foundatio issue 317; and dbos-transact-py issue 803, of a laptop that slept."""
    plan = rules("one").plan(Cron("* * * * *", "UTC"), FIRST, FIRST + 5 * HOUR)

    assert plan.run == (FIRST + 5 * HOUR,)
    assert plan.skipped == 300


def test_years_of_a_schedule_by_the_minute_are_not_counted_one_by_one() -> None:
    now = FIRST + 900 * DAY
    plan = rules("all").plan(Cron("* * * * *", "UTC"), FIRST, now)

    assert plan.run == tuple(now - n * MINUTE for n in reversed(range(CATCH_UP_MAX)))
    assert plan.skipped == TICKS_COUNTED - CATCH_UP_MAX
    assert plan.next_at == now + MINUTE


def test_years_of_an_interval_are_counted() -> None:
    every = Every(dt.timedelta(seconds=1), FIRST - dt.timedelta(seconds=1))

    plan = rules("one").plan(every, FIRST, FIRST + 900 * DAY)

    assert plan.run == (FIRST + 900 * DAY,)
    assert plan.skipped == 900 * 24 * 3600


def test_each_tick_of_a_year_is_run_or_skipped_whenever_one_looks() -> None:
    """Virtual time: looks at odd intervals, from seconds to weeks."""
    cron = Cron("10 */3 1,15 * 1-5", "America/Santiago")
    expected = walked("10 */3 1,15 * 1-5", "America/Santiago")
    for missed, step in (("one", 11 * HOUR), ("all", 9 * DAY), ("none", dt.timedelta(seconds=40))):
        now, next_at = expected[0], expected[0]
        run: list[dt.datetime] = []
        skipped = 0
        while now < expected[-1] - 20 * DAY:
            plan = rules(missed).plan(cron, next_at, now)
            run += plan.run
            skipped += plan.skipped
            next_at = plan.next_at
            now += step * max(1, (next_at - now) // step)
            while now < next_at:
                now += step

        over = [tick for tick in expected if tick < next_at]
        assert set(run) <= set(over)
        assert run == sorted(set(run))
        assert len(run) + skipped == len(over)


def test_jitter_is_below_what_is_allowed_the_same_for_all_and_another_for_each_tick() -> None:
    delays = [delay("nightly", FIRST + n * DAY, HOUR) for n in range(50)]

    assert delays == [delay("nightly", FIRST + n * DAY, HOUR) for n in range(50)]
    assert all(dt.timedelta(0) <= each < HOUR for each in delays)
    assert len(set(delays)) == 50
    assert max(delays) - min(delays) > HOUR / 2
    assert delay("nightly", FIRST, dt.timedelta(0)) == dt.timedelta(0)
