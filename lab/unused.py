"""Whether another run uses the lab's folder: its base images, a fresh machine, the hosts in network namespaces."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lab import paths
from lab.error import LabError
from lab.netns.root import PREFIX


@contextmanager
def held() -> Iterator[None]:
    """Keep other runs out of the lab's folder meanwhile. Raises LabError if one uses it."""
    cache = paths.root() / "cache"
    places = ("lock", "fresh-*.lock", "netns-root.lock", f"{PREFIX}*")
    locks = [lock for place in places for lock in cache.glob(place)]
    with ExitStack() as stack:
        for lock in locks:
            _take(lock, stack)
        yield


def _take(lock: Path, stack: ExitStack) -> None:
    handle = os.open(lock, os.O_RDONLY)
    stack.callback(os.close, handle)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LabError(
            f"another run uses the lab ({lock}): nothing was removed"
        ) from None
