"""Controllers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.playing import Controller


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    with tempfile.TemporaryDirectory(prefix="rc", ignore_cleanup_errors=True) as home:
        yield Controller(tmp_path / "controller", Path(home))
