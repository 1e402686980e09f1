"""Values of a journal become the types that a dataclass declares, or are refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from reclaim.base.strict import build


@dataclass(frozen=True)
class Inner:
    name: str
    count: int = 0


@dataclass(frozen=True)
class Outer:
    path: str
    size: int
    is_whole: bool
    before: str | None
    inner: Inner
    lines: list[str] = field(default_factory=list)
    spans: tuple[int, ...] = ()
    by_name: dict[str, Inner] = field(default_factory=dict)
    maybe: Inner | None = None
    anything: Any = None


WHOLE: dict[str, Any] = {"path": "/a", "size": 3, "is_whole": True, "before": None, "inner": {"name": "x"}}


def test_what_is_left_out_has_its_default() -> None:
    assert build(Outer, WHOLE) == Outer("/a", 3, True, None, Inner("x", 0))


def test_what_json_has_becomes_what_is_declared() -> None:
    more = {
        "before": "text",
        "lines": ["a", "b"],
        "spans": [1, 2],
        "by_name": {"k": {"name": "y", "count": 7}},
        "maybe": {"name": "z"},
        "anything": [{"of": 1.5}],
    }
    made = build(Outer, WHOLE | more)
    assert (made.before, made.lines, made.anything) == ("text", ["a", "b"], [{"of": 1.5}])
    assert made.spans == (1, 2)
    assert made.by_name == {"k": Inner("y", 7)}
    assert made.maybe == Inner("z")


def test_a_list_may_come_as_a_tuple() -> None:
    made = build(Outer, WHOLE | {"lines": ("a",), "spans": (1,)})
    assert (made.lines, made.spans) == (["a"], (1,))


def test_text_that_is_no_utf_8_is_taken() -> None:
    assert build(Inner, {"name": "/mnt/\udcff"}) == Inner("/mnt/\udcff")


@pytest.mark.parametrize(
    ("more", "where"),
    [
        pytest.param({"path": 1}, "Outer.path", id="number-for-text"),
        pytest.param({"path": None}, "Outer.path", id="nothing-for-text"),
        pytest.param({"size": "3"}, "Outer.size", id="text-for-number"),
        pytest.param({"size": True}, "Outer.size", id="truth-for-number"),
        pytest.param({"size": 3.0}, "Outer.size", id="fraction-for-number"),
        pytest.param({"is_whole": 1}, "Outer.is_whole", id="number-for-truth"),
        pytest.param({"before": 5}, "Outer.before", id="number-for-optional-text"),
        pytest.param({"lines": "ab"}, "Outer.lines", id="text-for-list"),
        pytest.param({"lines": ["a", 1]}, "Outer.lines", id="number-in-list-of-text"),
        pytest.param({"spans": {"1": 2}}, "Outer.spans", id="object-for-tuple"),
        pytest.param({"by_name": [["k", 1]]}, "Outer.by_name", id="list-for-object"),
        pytest.param({"by_name": {1: {"name": "x"}}}, "Outer.by_name", id="number-for-key"),
        pytest.param({"by_name": {"k": {}}}, "Inner: name is missing", id="incomplete-in-object"),
        pytest.param({"inner": []}, "Inner: a list", id="list-for-dataclass"),
        pytest.param({"inner": None}, "Inner: nothing", id="nothing-for-dataclass"),
        pytest.param({"inner": {"name": "x", "age": 1}}, "'age' is unknown", id="unknown-below"),
        pytest.param({"maybe": {"name": 1}}, "Inner.name", id="wrong-below-optional"),
    ],
)
def test_what_is_wrong_is_named(more: dict[str, Any], where: str) -> None:
    with pytest.raises(ValueError, match=where):
        build(Outer, WHOLE | more)


@pytest.mark.parametrize("values", [None, [], "x", 1])
def test_what_is_no_object_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"Inner: .* instead of an object"):
        build(Inner, values)


@pytest.mark.parametrize("missing", list(WHOLE))
def test_what_is_missing_is_named(missing: str) -> None:
    values = {name: value for name, value in WHOLE.items() if name != missing}
    with pytest.raises(ValueError, match=f"Outer: {missing} is missing"):
        build(Outer, values)


def test_what_is_unknown_is_named_and_cut() -> None:
    with pytest.raises(ValueError, match="is unknown to this version") as caught:
        build(Inner, {"name": "x", "y" * 10_000: 1})
    assert len(str(caught.value)) < 120
