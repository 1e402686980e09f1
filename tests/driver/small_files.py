"""A plugin of pytest's that keeps the files of this process small, as a full disk does: a write fails with EFBIG."""

from __future__ import annotations

import resource
import signal


def pytest_sessionstart() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, 100 * 1024))
