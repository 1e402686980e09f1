"""A plugin of pytest's that sends this process, or SIGNAL@another, signals in the hooks that STOP_AT names."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

_AT = dict(one.split(":") for one in filter(None, os.environ.get("STOP_AT", "").split(",")))


def _told(hook: str) -> None:
    if hook in _AT:
        for name in _AT[hook].split("+"):
            number, _, process = name.partition("@")
            os.kill(int(process or os.getpid()), signal.Signals[number])


@pytest.hookimpl(trylast=True)
def pytest_sessionstart() -> None:
    _told("sessionstart")


def pytest_itemcollected() -> None:
    stream = Path(__file__).open("rb")  # noqa: SIM115 (a signal leaves it open: pytest reads files as well)
    _told("itemcollected")
    stream.close()


@pytest.hookimpl(tryfirst=True)
def pytest_keyboard_interrupt() -> None:
    _told("keyboard_interrupt")


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
