"""Configurations of backup programs, which are no shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from tests.jobs import declared_job, judged, rsync

__all__ = ["rsync"]


@pytest.mark.slow
@pytest.mark.parametrize("text", ["[" * 20_000, "- " * 20_000, "a: &a [x]\nb: *a\n", "a: !!python/object:x {}\n", "\0"])
def test_odd_yaml_is_read_to_an_end(tmp_path: Path, rsync: Path, text: str) -> None:
    one = declared_job(tmp_path, "job.yaml", text=text)
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE
