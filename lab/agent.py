"""Commands in a lab guest through its agent: for the lab's own purposes, in a guest that is trusted."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import libvirt
import libvirt_qemu

from lab.error import LabError

REPLY_SECONDS = 10
"""How long the agent may take for one reply; under emulation 10-50 ms are usual."""


class Output(NamedTuple):
    """What a command in the guest left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def answers(dom: libvirt.virDomain) -> bool:
    """Return whether the guest's agent answers a ping within two seconds."""
    try:
        libvirt_qemu.qemuAgentCommand(dom, json.dumps({"execute": "guest-ping"}), 2, 0)
    except libvirt.libvirtError:
        return False
    return True


def run(dom: libvirt.virDomain, command: str | Sequence[str], seconds: float) -> Output:
    """Run a command, a text by /bin/sh, and wait for it up to `seconds`.

    Raises LabError where the agent does not answer, refuses, or the command takes longer.
    """
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    started = _ask(
        dom, "guest-exec", {"path": argv[0], "arg": argv[1:], "capture-output": True}
    )
    end = time.monotonic() + seconds
    pause = 0.02
    while True:
        status = _ask(dom, "guest-exec-status", {"pid": started["pid"]})
        if status["exited"]:
            # A command that a signal ended has no exit code; shells say 128 and more.
            code = (
                status["exitcode"]
                if "exitcode" in status
                else 128 + int(status.get("signal", 0))
            )
            return Output(
                int(code), _text(status.get("out-data")), _text(status.get("err-data"))
            )
        if time.monotonic() > end:
            raise LabError(
                f"{dom.name()}: {argv[-1]!r} took longer than {seconds:.0f} s"
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def _ask(
    dom: libvirt.virDomain, execute: str, arguments: dict[str, object]
) -> dict[str, Any]:
    asked = json.dumps({"execute": execute, "arguments": arguments})
    try:
        reply = json.loads(libvirt_qemu.qemuAgentCommand(dom, asked, REPLY_SECONDS, 0))
    except libvirt.libvirtError as error:
        raise LabError(
            f"{dom.name()}: its agent does not do {execute}: {error}"
        ) from None
    answer: dict[str, Any] = reply["return"]
    return answer


def _text(data: str | None) -> str:
    return base64.b64decode(data or "").decode("utf-8", errors="replace")
