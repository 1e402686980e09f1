"""A plugin of pytest for tests: each long step of a run waits until the run has printed that it is under way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from reclaim.record import results
from reclaim.report import terminal
from reclaim.report.publish import Pages

#: seconds that only a failure takes
_PATIENCE = 60
_shown: list[str] = []

for _name in ("_TICK_SECONDS", "_SCREEN_SECONDS", "_PIPE_SECONDS"):
    setattr(terminal, _name, 0.001)


def _wait_for(label: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline and not any(text.startswith(f"{label}: ") for text in _shown):
        time.sleep(0.01)


def _slowed(owner: Any, name: str, label: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def slow(*arguments: Any, **named: Any) -> Any:
        _wait_for(label)
        return real(*arguments, **named)

    setattr(owner, name, slow)


def _heard(real: Callable[..., None]) -> Callable[..., None]:
    def heard(progress: terminal.Progress, text: str) -> None:
        real(progress, text)
        _shown.append(text)

    return heard


terminal.Progress.__call__ = _heard(terminal.Progress.__call__)  # type: ignore[method-assign]
_slowed(results, "write", "writing the record")
_slowed(Pages, "finish", "writing the report")


def pytest_collection_modifyitems() -> None:
    _wait_for("listing all that is judged")
