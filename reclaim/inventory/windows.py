"""Maintenance windows: the times in which reclaim may power-cycle a guest.

A window is written in the time of a zone. A time that daylight saving skips means the moment of the jump, and one that
comes twice means the first of the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    WithJsonSchema,
    model_validator,
)

from reclaim.base.nearest import meant
from reclaim.inventory import names
from reclaim.inventory.keys import Scoped

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[str, ...] = get_args(Day)
#: minutes of a day; "24:00" ends it
_ALL_DAY = 24 * 60
#: days that are looked ahead: each weekday comes once, and once more if its first window is nearly over
_AHEAD = 9


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _a_zone(name: str) -> str:
    zones = _zones()
    if name in zones:
        return name
    if not zones:
        raise ValueError("this machine has no time zones: install tzdata")
    raise ValueError(
        f'{name!r:.60} is no time zone{meant(name, zones)}: give one such as "Europe/Vienna" or "UTC"'
    )


def _minutes(value: Any) -> Any:
    """Return the minutes since midnight that "22:00", or TOML's 22:00:00, stands for. Raises ValueError."""
    if isinstance(value, time) and not (value.second or value.microsecond):
        return value.hour * 60 + value.minute
    match = (
        re.fullmatch(r"([0-9]{2}):([0-9]{2})", value)
        if isinstance(value, str)
        else None
    )
    if match:
        hours, minutes = int(match[1]), int(match[2])
        if minutes < 60 and hours * 60 + minutes <= _ALL_DAY:
            return hours * 60 + minutes
    raise ValueError('give a time of day in quotes, from "00:00" to "24:00"')


Zone = Annotated[str, AfterValidator(_a_zone)]
Minute = Annotated[
    int,
    BeforeValidator(_minutes),
    WithJsonSchema(
        {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$"}
    ),
]


class Window(Scoped):
    """One `[[window]]`: days and hours in which guests may be power-cycled."""

    guests: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None,
        description="Globs of the guests that it is for; if it is absent, the guests that no other window names.",
    )
    days: Annotated[list[Day], Field(min_length=1)] | None = Field(
        default=None,
        description="The days on which it begins; every day if it is absent.",
    )
    begin: Minute = Field(
        alias="from", description='The time at which it begins, such as "22:00".'
    )
    end: Minute = Field(
        alias="to",
        description="The time at which it ends; on the next day if that is not after `from`.",
    )
    zone: Zone = Field(
        description='The time zone of `from` and `to`, such as "Europe/Vienna" or "UTC".'
    )

    @model_validator(mode="after")
    def _has_a_length(self) -> Window:
        if self.begin == self.end:
            raise ValueError(
                'from and to are the same time: the whole day is from = "00:00", to = "24:00"'
            )
        if self.begin == _ALL_DAY:
            raise ValueError('no window begins at "24:00": give from = "00:00"')
        return self

    def is_for(self, guest: str) -> bool:
        """True if it names *guest*."""
        return any(names.matches(glob, guest) for glob in self.guests or ())

    @property
    def place(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    @property
    def words(self) -> str:
        """Return it in one line, such as "sat, sun 22:00-04:00 Europe/Vienna"."""
        days = ", ".join(self.days) if self.days else "every day"
        return f"{days} {_clock(self.begin)}-{_clock(self.end)} {self.zone}"

    def span(self, day: date) -> Span:
        """Return the time that the window takes if it begins on *day*."""
        is_over_midnight = self.end <= self.begin
        following = day + timedelta(days=1) if is_over_midnight else day
        return Span(
            _moment(day, self.begin, self.place),
            _moment(following, self.end, self.place),
            self.zone,
        )


@dataclass(frozen=True)
class Span:
    """A stretch of time. `begin` and `end` are in UTC; *zone* is the one in which people read them."""

    begin: datetime
    end: datetime
    zone: str


@dataclass(frozen=True)
class Closed:
    """The reason why no power cycle may begin now, and the next moment at which one may; None if there is none."""

    reason: str
    begins: datetime | None


def why_closed(
    windows: Iterable[Window], now: datetime, needed: timedelta
) -> Closed | None:
    """Return why a power cycle that takes *needed* may not begin *now*, or None if it may.

    Without windows it may begin at any time.
    """
    windows = list(windows)
    if not windows:
        return None
    now = now.astimezone(timezone.utc)
    spans = _joined(_spans(windows, now))
    current = next((span for span in spans if span.begin <= now < span.end), None)
    if current is not None and current.end - now >= needed:
        return None
    following = next(
        (
            span
            for span in spans
            if span.begin > now and span.end - span.begin >= needed
        ),
        None,
    )
    return Closed(
        _words(current, following, now, needed),
        following.begin if following else None,
    )


def _words(
    current: Span | None, following: Span | None, now: datetime, needed: timedelta
) -> str:
    parts = []
    length = (
        f"a power cycle may take {_length(needed)} (shutdown_seconds and boot_seconds)"
    )
    if current is not None:
        parts.append(
            f"its maintenance window ends in {_length(current.end - now)}, and {length}"
        )
    if following is not None:
        which = "the next one" if parts else "its maintenance window"
        parts.append(f"{which} begins {readable(following.begin, following.zone)}")
    else:
        parts.append(
            f"no window of the next {_AHEAD - 1} days is long enough: {length}"
        )
    return "; ".join(parts)


def readable(moment: datetime, zone: str) -> str:
    """Return *moment* as "Sat 2026-12-05 22:00 (Europe/Vienna)"."""
    there = moment.astimezone(ZoneInfo(zone))
    return f"{DAYS[there.weekday()].title()} {there:%Y-%m-%d %H:%M} ({zone})"


def _length(span: timedelta) -> str:
    minutes, seconds = divmod(round(span.total_seconds()), 60)
    if minutes >= 10 or not seconds:
        return f"{minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _spans(windows: Iterable[Window], now: datetime) -> Iterator[Span]:
    """Yield the spans that are not over, and begin within the next days."""
    for window in windows:
        today = now.astimezone(window.place).date()
        for offset in range(-1, _AHEAD):
            day = today + timedelta(days=offset)
            if window.days is not None and DAYS[day.weekday()] not in window.days:
                continue
            span = window.span(day)
            # daylight saving may leave nothing of a short one
            if span.end > max(now, span.begin):
                yield span


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Return *spans* in their order, those that overlap or follow at once as one."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: span.begin):
        if joined and span.begin <= joined[-1].end:
            last = joined.pop()
            joined.append(Span(last.begin, max(last.end, span.end), last.zone))
        else:
            joined.append(span)
    return joined


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _moment(day: date, minutes: int, zone: ZoneInfo) -> datetime:
    """Return the moment of this time of day in UTC: of a skipped one the jump, of one that comes twice the first."""
    if minutes == _ALL_DAY:
        day, minutes = day + timedelta(days=1), 0
    wall = datetime.combine(day, time(minutes // 60, minutes % 60), zone)
    moment = wall.astimezone(timezone.utc)
    back = moment.astimezone(zone)
    if back.replace(tzinfo=None) == wall.replace(tzinfo=None):
        return moment
    return _jump(wall.replace(fold=1).astimezone(timezone.utc), moment, zone)


def _jump(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """Return the second between *before* and *after* from which on *zone* has the offset that it has at *after*."""
    offset = after.astimezone(zone).utcoffset()
    low, high = 0, round((after - before).total_seconds())
    while low < high:
        middle = (low + high) // 2
        there = (before + timedelta(seconds=middle)).astimezone(zone)
        if there.utcoffset() == offset:
            high = middle
        else:
            low = middle + 1
    return before + timedelta(seconds=low)
