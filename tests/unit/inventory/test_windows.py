"""Maintenance windows: over midnight, over the changes of daylight saving, near the end, several, none."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from reclaim.inventory import Inventory, Window
from reclaim.inventory.windows import Closed, why_closed

VIENNA = "Europe/Vienna"
NEEDED = timedelta(minutes=8)


def window(begin: Any = "22:00", end: Any = "04:00", *days: str, zone: str = VIENNA, **more: Any) -> Window:
    keys = {"from": begin, "to": end, "zone": zone, **more}
    if days:
        keys["days"] = list(days)
    return Window.model_validate(keys)


def at(text: str, zone: str = VIENNA, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(timezone.utc)


def closed(now: datetime, *windows: Window, needed: timedelta = NEEDED) -> Closed | None:
    return why_closed(windows, now, needed)


def next_begin(now: datetime, *windows: Window, needed: timedelta = NEEDED) -> str | None:
    """The local time at which the next window begins, None if one is open now."""
    reason = closed(now, *windows, needed=needed)
    if reason is None:
        return None
    assert reason.begins is not None
    return f"{reason.begins.astimezone(ZoneInfo(VIENNA)):%Y-%m-%d %H:%M %z}"


def test_without_a_window_it_is_any_time() -> None:
    assert closed(at("2026-11-30 12:00")) is None


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        # 5 December 2026 is a Saturday
        ("2026-12-05 21:59", "2026-12-05 22:00 +0100"),
        ("2026-12-05 22:00", None),
        ("2026-12-06 03:52", None),
        ("2026-12-06 03:53", "2026-12-06 22:00 +0100"),
        ("2026-12-06 04:00", "2026-12-06 22:00 +0100"),
        ("2026-12-07 03:00", None),
        ("2026-12-07 12:00", "2026-12-12 22:00 +0100"),
        ("2026-12-05 03:00", "2026-12-05 22:00 +0100"),
        ("2026-12-11 23:00", "2026-12-12 22:00 +0100"),
    ],
)
def test_the_days_are_those_on_which_it_begins(now: str, begins: str | None) -> None:
    assert next_begin(at(now), window("22:00", "04:00", "sat", "sun")) == begins


@pytest.mark.parametrize(
    ("now", "begins"),
    [
        ("2026-12-05 09:59", "2026-12-05 10:00 +0100"),
        ("2026-12-05 10:00", None),
        ("2026-12-05 12:00", "2026-12-06 10:00 +0100"),
    ],
)
def test_within_one_day(now: str, begins: str | None) -> None:
    assert next_begin(at(now), window("10:00", "12:00")) == begins


def test_the_whole_day() -> None:
    every = window("00:00", "24:00")
    assert closed(at("2026-12-05 23:59"), every) is None
    only = window("00:00", "24:00", "sun")
    assert next_begin(at("2026-12-05 23:59"), only) == "2026-12-06 00:00 +0100"
    assert closed(at("2026-12-06 23:52"), only) is None
    assert next_begin(at("2026-12-06 23:53"), only) == "2026-12-13 00:00 +0100"


def test_windows_that_follow_at_once_are_one() -> None:
    windows = window("22:00", "24:00", "sat"), window("00:00", "04:00", "sun")
    assert closed(at("2026-12-05 23:58"), *windows) is None
    assert closed(at("2026-12-06 03:58"), *windows) is not None


def test_of_several_windows_each_will_do_and_the_next_one_is_named() -> None:
    windows = window("22:00", "04:00", "sat"), window("12:00", "13:00", "wed", zone="UTC")
    assert next_begin(at("2026-12-07 12:00"), *windows) == "2026-12-09 13:00 +0100"
    assert closed(at("2026-12-09 13:30"), *windows) is None
    reason = closed(at("2026-12-07 12:00"), *windows)
    assert reason is not None
    assert reason.reason == "its maintenance window begins Wed 2026-12-09 12:00 (UTC)"


def test_a_window_that_is_too_short_never_opens_and_that_is_named() -> None:
    short = window("22:00", "22:05")
    reason = closed(at("2026-12-05 22:00"), short)
    assert reason is not None
    assert reason.begins is None
    assert "no window of the next 8 days is long enough: a power cycle may take 8 min" in reason.reason
    assert closed(at("2026-12-05 22:00"), short, needed=timedelta(minutes=5)) is None


def test_a_short_window_is_passed_over_for_a_longer_one() -> None:
    windows = window("12:00", "12:05"), window("22:00", "23:00", "sun")
    assert next_begin(at("2026-12-05 11:00"), *windows) == "2026-12-06 22:00 +0100"


# Daylight saving: on 2027-03-28 Vienna jumps from 02:00 to 03:00, on 2026-10-25 it goes back from 03:00 to 02:00.

SPRING, AUTUMN = date(2027, 3, 28), date(2026, 10, 25)


@pytest.mark.parametrize(
    ("day", "begin", "end", "hours"),
    [
        (date(2026, 12, 5), "22:00", "04:00", 6),
        (SPRING - timedelta(days=1), "22:00", "04:00", 5),
        (AUTUMN - timedelta(days=1), "22:00", "04:00", 7),
        (SPRING, "01:00", "02:30", 1),
        (SPRING, "02:30", "04:00", 1),
        (SPRING, "02:00", "03:00", 0),
        (SPRING, "02:10", "02:50", 0),
        (SPRING, "00:00", "24:00", 23),
        (AUTUMN, "00:00", "24:00", 25),
        (AUTUMN, "01:30", "02:30", 1),
        (AUTUMN, "02:30", "03:30", 2),
        (AUTUMN, "02:00", "03:00", 2),
        (AUTUMN, "03:00", "04:00", 1),
    ],
)
def test_the_length_on_days_on_which_the_clock_changes(day: date, begin: str, end: str, hours: float) -> None:
    span = window(begin, end).span(day)
    assert span.end - span.begin == timedelta(hours=hours)


def test_a_time_that_is_skipped_is_the_moment_of_the_jump() -> None:
    span = window("02:30", "04:00").span(SPRING)
    assert span.begin == at("2027-03-28 03:00")
    assert window("01:00", "02:30").span(SPRING).end == at("2027-03-28 03:00")


def test_a_time_that_comes_twice_is_the_first() -> None:
    span = window("02:30", "04:00").span(AUTUMN)
    assert span.begin == at("2026-10-25 02:30", fold=0)
    early = window("22:00", "02:30").span(AUTUMN - timedelta(days=1))
    assert early.end == at("2026-10-25 02:30", fold=0)


def test_nothing_is_left_of_a_window_that_the_clock_skips() -> None:
    skipped = window("02:00", "03:00")
    assert next_begin(at("2027-03-28 01:59"), skipped, needed=timedelta()) == "2027-03-29 02:00 +0200"


@pytest.mark.parametrize("zone", ["UTC", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia", "America/New_York"])
def test_each_day_of_a_year_has_its_window_in_any_zone(zone: str) -> None:
    found = window("22:15", "03:45", zone=zone)
    for offset in range(366):
        span = found.span(date(2026, 1, 1) + timedelta(days=offset))
        assert timedelta(hours=4) <= span.end - span.begin <= timedelta(hours=7)
        assert (span.begin.astimezone(ZoneInfo(zone)).time()) == time(22, 15)


def test_tomls_own_times_of_day_are_taken_too() -> None:
    assert window(time(22), time(4, 30)).words == "every day 22:00-04:30 Europe/Vienna"
    assert window("22:00", "04:30", "sat", "sun").words == "sat, sun 22:00-04:30 Europe/Vienna"


@pytest.mark.parametrize(
    "text", ["", "22", "22:0", "24:01", "-1:00", "22:00:00", "٢٢:٠٠", "22:00\n", "noon", 22, True, None]
)
def test_no_time_of_day(text: Any) -> None:
    with pytest.raises(ValueError, match="give a time of day"):
        window(text)


def test_windows_that_name_a_guest_stand_before_those_for_all() -> None:
    inventory = Inventory(
        window=[
            window("22:00", "04:00"),
            window("01:00", "02:00", guests=["db*"]),
            window("05:00", "06:00", guests=["*1"]),
        ]
    )
    every, of_db, of_one = inventory.window
    assert inventory.windows_of("web") == [every]
    assert inventory.windows_of("db2") == [of_db]
    assert inventory.windows_of("db1") == [of_db, of_one]
    assert Inventory().windows_of("web") == []
