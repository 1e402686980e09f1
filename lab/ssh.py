"""Runs commands by ssh in the lab's guests that have no agent."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Sequence
from pathlib import Path

from lab import image, tools
from lab.agent import Output
from lab.error import LabError

RECIPE = "ssh"
USER = "admin"
CONNECT_SECONDS = 30


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def known_hosts(port: int) -> str:
    """Return the lines of known_hosts for what listens at that port. Raises LabError where nothing speaks ssh."""
    argv = [
        "ssh-keyscan",
        "-t",
        "ed25519",
        "-T",
        str(CONNECT_SECONDS),
        "-p",
        str(port),
        "127.0.0.1",
    ]
    found = [
        line
        for line in tools.call(argv, seconds=60).splitlines()
        if not line.startswith("#")
    ]
    if not found:
        raise LabError(f"nothing speaks ssh at 127.0.0.1 port {port}")
    return "".join(f"{line}\n" for line in found)


def run(port: int, known: Path, command: str | Sequence[str], seconds: float) -> Output:
    """Run a command as root in the guest behind that port; a text by its shell.

    The host key is learned into the file `known` at the first time. Raises LabError where ssh gets no answer.
    """
    text = command if isinstance(command, str) else shlex.join(command)
    argv = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(image.identity(RECIPE)),
        "-p",
        str(port),
        "-l",
        USER,
        "-o",
        "BatchMode=yes",
    ]
    argv += [
        "-o",
        "IdentitiesOnly=yes",
        "-o",
        "StrictHostKeyChecking=accept-new",
        "-o",
        f"UserKnownHostsFile={known}",
    ]
    argv += [
        "-o",
        f"ConnectTimeout={CONNECT_SECONDS}",
        "-o",
        "LogLevel=ERROR",
        "127.0.0.1",
    ]
    # what a shell of the user says at its start goes elsewhere
    argv.append(f"exec sudo -n /bin/sh -c {shlex.quote(text)}")
    done = tools.run(argv, seconds=seconds)
    if done.returncode == 255:
        raise LabError(f"ssh to port {port} gets no answer: {done.stderr.strip()}")
    return Output(
        done.returncode, done.stdout.partition(GREETING)[2] or done.stdout, done.stderr
    )


GREETING = "Welcome to reclaim-lab\n"
"""What the user's shell says before anything else (ssh-root.sh)."""
