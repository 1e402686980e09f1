"""libvirt's event loop, in a thread of its own: only with it does a connection notice that the daemon is silent."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import libvirt

#: seconds between two questions whether the daemon is there, and how many may stay open: then libvirt hangs up.
#: libvirtd answers them in its main loop, however busy its workers are (libvirt.org/internals/rpc.html)
INTERVAL, COUNT = 5, 6
#: seconds until an event loop that failed is run again
_PAUSE = 1.0

_started = threading.Lock()


def run() -> None:
    """Run the event loop from now on. Connections that are opened later are in it."""
    if not _started.acquire(blocking=False):
        return
    libvirt.virEventRegisterDefaultImpl()
    threading.Thread(target=_loop, name="libvirt's events", daemon=True).start()


def _loop() -> None:
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError:
            time.sleep(_PAUSE)


def keep_alive(connection: libvirt.virConnect) -> None:
    """Let *connection* end if its daemon is silent for INTERVAL × COUNT seconds: calls that wait for it fail then.

    A daemon older than libvirt 0.9.8, or a connection without one, knows no such question.
    """
    with suppress(libvirt.libvirtError):
        connection.setKeepAlive(INTERVAL, COUNT)
