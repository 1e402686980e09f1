"""An ssh to the hypervisor that breaks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an ssh that is cut off as OpenSSH's is, until a file `works` lies there."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\n[ -e "${0%/*}/works" ] && { for last; do :; done; exec /bin/sh -c "$last"; }\n'
        "echo 'kex_exchange_identification: Connection closed by remote host' >&2\nexit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path
