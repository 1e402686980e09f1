"""The place of the reports: of a checkout, of root, of a user."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from reclaim.base import home
from reclaim.base.errors import ReclaimError
from tests.support import ROOT


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "IS_CHECKOUT", False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


def test_in_a_checkout_they_lie_there_wherever_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (home.HOME, home.CHECKS, home.reports()) == (ROOT, ROOT / "checks", ROOT / "reports")


@pytest.mark.usefixtures("installed")
def test_root_has_the_place_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("XDG_STATE_HOME", "/home/ada/state")
    assert home.reports() == Path("/var/lib/reclaim/reports")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("state", "place"),
    [
        (None, "/home/ada/.local/state/reclaim/reports"),
        ("", "/home/ada/.local/state/reclaim/reports"),
        ("state", "/home/ada/.local/state/reclaim/reports"),
        ("/data/state", "/data/state/reclaim/reports"),
    ],
)
def test_a_user_has_a_place_below_the_own_state(monkeypatch: pytest.MonkeyPatch, state: str | None, place: str) -> None:
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)
    assert home.reports() == Path(place)


@pytest.mark.usefixtures("installed")
def test_a_user_without_a_home_has_to_name_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(ReclaimError, match="--reports DIR"):
        home.reports()


def test_our_checks_come_before_others_of_that_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/elsewhere"])
    home.make_importable()
    home.make_importable()
    assert sys.path == [str(ROOT), "/elsewhere"]
