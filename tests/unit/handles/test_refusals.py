"""The changes that libvirt refuses for a running disk."""

from __future__ import annotations

from reclaim.handles import refusals


def test_nothing_is_known_of_a_libvirt_to_come() -> None:
    assert set(refusals.known(9_000_000)) == {"discard", "discard_no_unref", "detect_zeroes"}
    assert refusals.known(99_000_000) == {}
