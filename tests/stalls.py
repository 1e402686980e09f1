"""Machines on the loopback that cannot be reached by ssh, each in its own way."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SECONDS = 60
#: what a machine sends to who connects; None if nobody listens
_KINDS: dict[str, bytes | None] = {
    "silent": b"",
    "banner": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "closed": None,
}


@contextmanager
def machine(kind: str) -> Iterator[str]:
    """A machine of one of _KINDS until the end: its address with its port."""
    words = _KINDS[kind]
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        if words is None:
            server.close()
            yield place
            return
        clients: list[socket.socket] = []
        thread = threading.Thread(target=_serve, args=(server, words, clients))
        thread.start()
        try:
            yield place
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for client in clients:
                client.close()


def _serve(server: socket.socket, words: bytes, clients: list[socket.socket]) -> None:
    with suppress(OSError):  # the end of the listener
        while True:
            client, _ = server.accept()
            clients.append(client)
            client.sendall(words)


def processes(*words: str) -> list[str]:
    """Return the command lines of the processes that have one of *words* in theirs, but for this one."""
    own = str(os.getpid())
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if path.parent.name != own and any(word in line for word in words):
                lines.append(line)
    return lines


def _ports_of_clients() -> set[int]:
    """Return the ports of this machine to which connections are established from here (proc_net(5))."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    established = [line.split()[2] for line in lines if line.split()[3] == "01"]
    return {int(remote.partition(":")[2], 16) for remote in established}


def hung_up(port: int) -> bool:
    """True if soon there is no connection to *port* of this machine."""
    end = time.monotonic() + _SECONDS
    while (is_connected := port in _ports_of_clients()) and time.monotonic() < end:
        time.sleep(0.05)
    return not is_connected


def none_left(*words: str) -> bool:
    """True if soon no process has one of *words* in its command line."""
    end = time.monotonic() + _SECONDS
    while (left := processes(*words)) and time.monotonic() < end:
        time.sleep(0.05)
    return not left
