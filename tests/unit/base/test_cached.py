"""An attribute that is worked out once."""

from __future__ import annotations

from reclaim.base.cached import kept


class Counting:
    asked = 0

    @kept
    def number(self) -> int:
        """How often it was worked out."""
        self.asked += 1
        return self.asked


def test_it_is_worked_out_once_for_each_instance() -> None:
    one, other = Counting(), Counting()
    assert (one.number, one.number, other.number) == (1, 1, 1)


def test_what_is_dropped_is_worked_out_again() -> None:
    one = Counting()
    assert one.number == 1
    del one.__dict__["number"]
    assert one.number == 2


def test_the_class_has_its_description() -> None:
    assert isinstance(Counting.number, kept)
    assert Counting.number.__doc__ == "How often it was worked out."
