"""Ctrl-C before the command has begun: one line, and the status of a run that was stopped."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import NoReturn

import pytest

from reclaim import __main__, entry, started


def _stopped(*_arguments: object, **_options: object) -> NoReturn:
    raise KeyboardInterrupt


def test_the_command_is_loaded_and_does_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "main", lambda: 5)
    assert entry.main() == 5


def test_ctrl_c_while_it_loads_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def load(name: str) -> ModuleType:
        if name == "reclaim.__main__":
            _stopped()
        return import_module(name)

    monkeypatch.setattr(entry, "import_module", load)
    assert entry.main() == 2
    assert capsys.readouterr() == ("", "reclaim: stopped before anything was done\n")


def test_ctrl_c_while_pytest_loads_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pytest, "main", _stopped)
    assert started.run("audit", []) == 2
    assert capsys.readouterr() == ("", "reclaim: stopped before anything was judged\n")
