"""A plugin of pytest's that prints on standard output wherever it can, as other plugins and libraries do."""

from __future__ import annotations

import os
import subprocess
import sys

_WORDS = "a word of another program\n"


def _chat() -> None:
    sys.stdout.write(_WORDS)
    sys.stdout.flush()
    os.write(1, _WORDS.encode())
    subprocess.run(["echo", _WORDS], check=True)


def pytest_sessionstart() -> None:
    _chat()


def pytest_collection_finish() -> None:
    _chat()


def pytest_runtest_logfinish() -> None:
    _chat()


def pytest_sessionfinish() -> None:
    _chat()


def pytest_terminal_summary() -> None:
    _chat()


def pytest_unconfigure() -> None:
    _chat()
