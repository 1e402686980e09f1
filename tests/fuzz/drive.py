"""Gives a target an input, and counts what it costs."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import libvirt

from tests.fuzz.targets import Target

#: calls that every input may take, however short
_FIXED = 60_000


class TooMuch(AssertionError):
    """An input took more function calls than its length allows."""


def silence() -> None:
    """libvirt's own handler prints every error, also those that are handled."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def give(one: Target, data: bytes) -> int:
    """Run *one* on *data*; the function calls that it took. Raises TooMuch, and whatever is a fault."""
    calls = 0
    most = _FIXED + one.calls_a_byte * len(data)

    def count(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1
            if calls > most:
                sys.setprofile(None)
                raise TooMuch(f"{one.name}: more than {most} calls for {len(data)} bytes")

    sys.setprofile(count)
    try:
        one.check(data)
    finally:
        sys.setprofile(None)
    return calls
