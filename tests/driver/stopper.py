"""A plugin of pytest's that sends this process, or SIGNAL@another, a signal in the hook that STOP_AT names."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

_HOOK, _, _NAMES = os.environ.get("STOP_AT", "").partition(":")


def _told(hook: str) -> None:
    if hook == _HOOK:
        for name in _NAMES.split("+"):
            number, _, process = name.partition("@")
            os.kill(int(process or os.getpid()), signal.Signals[number])


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    _told("sessionstart")


def pytest_itemcollected() -> None:
    _told("itemcollected")


def pytest_collection_finish() -> None:
    _told("collection_finish")


class _Late:
    """Registered after reclaim's own hooks: its wrappers are the outer ones."""

    seen = 0

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seen += report.when == "call"
        if self.seen == 5:
            _told("logreport")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, Any, Any]:
        _told("sessionfinish")
        found = yield
        _told("finished")
        return found

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self) -> None:
        _told("terminal_summary")

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        _told("unconfigure")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Late(), "late-stopper")
    _told("configure")
