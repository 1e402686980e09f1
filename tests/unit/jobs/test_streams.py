"""Copies that go through pipes, and those that are read and not kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs import IMAGES, declared_job, judged, rsync, says_version

__all__ = ["rsync"]


@pytest.mark.parametrize(
    "command",
    [f"cat {IMAGES}/web.qcow2 >/dev/null", f"pv {IMAGES}/web.qcow2 | sha256sum", f"dd if={IMAGES}/db.img of=/dev/null"],
)
def test_what_is_only_read_is_not_copied(tmp_path: Path, rsync: Path, command: str) -> None:
    says_version(rsync, "3.4.1")
    assert "no command in it copies" in judged(declared_job(tmp_path, "job.sh", text=f"#!/bin/sh\n{command}\n")).reason
