"""Runs the real tools (mmdebstrap, mkfs.ext4, qemu-img …) that no library speaks for."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence

from lab.error import LabError

_STEERING = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|.)")

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def environment() -> dict[str, str]:
    """Return this process's environment with the folders of system tools on PATH and messages in English."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {
        **os.environ,
        "PATH": f"{path}:{SBIN}",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }


def run(
    argv: Sequence[str], *, seconds: float, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `argv`, however it ends. `seconds` is the limit. Raises LabError where it is missing or takes longer."""
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env={**environment(), **(env or {})},
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{argv[0]} took longer than {seconds:.0f} s") from None


def call(
    argv: Sequence[str], *, seconds: float, env: Mapping[str, str] | None = None
) -> str:
    """`run`, and return its standard output. Raises LabError with the tool's last lines where it fails, too."""
    done = run(argv, seconds=seconds, env=env)
    if done.returncode != 0:
        raise LabError(
            f"{argv[0]} failed ({done.returncode}): {last_lines(done.stderr or done.stdout, 6)}"
        )
    return done.stdout


def last_lines(text: str, count: int) -> str:
    """Return the last `count` lines of `text` that say something, without what would steer a terminal."""
    plain = (
        "".join(c for c in _STEERING.sub("", line) if c.isprintable() or c == "\t")
        for line in text.splitlines()
    )
    return "\n".join([line.rstrip() for line in plain if line.strip()][-count:])
