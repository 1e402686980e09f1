"""The lab's machine types on a QEMU that has other ones."""

from __future__ import annotations

import pytest

from lab import machines
from lab.error import LabError

#: in the order of `-machine help`, which sorts them as text
OFFERED = "pc-i440fx-9.2", "pc-i440fx-2.7", "pc-i440fx-2.6", "pc-i440fx-2.12", "pc-i440fx-10.0", "pc-q35-3.1"


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The types that were tried."""
    tried: list[str] = []

    def boots(name: str) -> bool:
        tried.append(name)
        return name not in ("pc-i440fx-2.6", "pc-q35-3.1")

    monkeypatch.setattr(machines, "offered", lambda: OFFERED)
    monkeypatch.setattr(machines, "_boots", boots)
    return tried


@pytest.mark.parametrize(
    ("wanted", "here"),
    [
        pytest.param("pc-i440fx-2.12", "pc-i440fx-2.12", id="there"),
        pytest.param("pc-i440fx-2.6", "pc-i440fx-2.6", id="there-whether-it-boots-or-not"),
        pytest.param("pc-i440fx-1.6", "pc-i440fx-2.7", id="the-oldest-that-boots"),
        pytest.param("pc-i440fx-2.9", "pc-i440fx-2.12", id="by-number"),
        pytest.param("pc-i440fx-9.9", "pc-i440fx-10.0", id="two-digits"),
        pytest.param("pc", "pc", id="alias"),
    ],
)
def test_a_type_that_is_gone_becomes_the_next_that_boots(wanted: str, here: str) -> None:
    assert machines.here(wanted) == here


def test_the_family_stays(asked: list[str]) -> None:
    with pytest.raises(LabError, match=r"no machine type pc-q35-2\.4, and boots no newer one"):
        machines.here("pc-q35-2.4")
    assert asked == ["pc-q35-3.1"]


@pytest.mark.parametrize(("name", "old"), [("pc-i440fx-2.0", True), ("pc-i440fx-2.1", False), ("pc-q35-10.0", False)])
def test_what_is_too_old(name: str, *, old: bool) -> None:
    assert machines.is_old(name) == old
