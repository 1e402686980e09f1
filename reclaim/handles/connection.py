"""Connections to libvirt: which go to another machine, how long they may take, and when one that is silent ends."""

from __future__ import annotations

import libvirt

from reclaim.handles.master import can_ask
from reclaim.processes import events

SSH_TRANSPORTS = ("ssh", "libssh", "libssh2")
#: transports of libvirt to another machine
_TRANSPORTS = (*SSH_TRANSPORTS, "tls", "tcp")
#: seconds until a hypervisor on another machine has answered all that a run asks of each
CONNECT_SECONDS = 18


def is_remote(uri: str) -> bool:
    """True if libvirt goes to another machine by this URI (libvirt.org/uri.html)."""
    return uri.partition("://")[0].partition("+")[2] in _TRANSPORTS


def is_by_ssh(uri: str) -> bool:
    return uri.partition("://")[0].partition("+")[2] == "ssh"


def seconds_for(uri: str, address: str) -> int | None:
    """Return the seconds that connecting to *uri* by *address* may take; None if it may take any time.

    libvirt's own ssh may ask a person on the terminal, and a daemon on this machine has all the time it takes.
    """
    if not is_remote(uri) or (address == uri and is_by_ssh(uri) and can_ask()):
        return None
    return CONNECT_SECONDS


def opened(uri: str, address: str, *, readonly: bool) -> libvirt.virConnect:
    """Connect to libvirt at *uri* by *address*. On another machine it ends if its daemon falls silent.

    Raises libvirtError.
    """
    if is_remote(uri):
        events.run()
    connection = (libvirt.openReadOnly if readonly else libvirt.open)(address)
    if is_remote(uri):
        events.keep_alive(connection)
    return connection
