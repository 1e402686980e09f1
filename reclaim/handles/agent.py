"""The QEMU guest agent, and a shell in the guest on top of it.

The agent speaks for the guest, and the guest is not trusted: every answer is bounded in time and
size and parsed strictly. Protocol: QEMU's qga/qapi-schema.json.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import libvirt
import libvirt_qemu
from testinfra.backend.base import BaseBackend, CommandResult
from testinfra.host import Host

from reclaim.base.errors import (
    AgentAbsent,
    AgentBlocked,
    AgentFrozen,
    AgentGarbled,
    ProbeError,
    TimedOut,
)
from reclaim.base.strict import number
from reclaim.definition import othersystem
from reclaim.handles import agent_answers
from reclaim.handles.agent_answers import AgentFilesystem, Interface, PathTrim
from reclaim.processes import worker

T = TypeVar("T")
#: the name of the channel on which it listens
AGENT_CHANNEL = "org.qemu.guest_agent.0"
#: seconds in which the agent itself must answer one call
ANSWER_SECONDS = 10
_FREEZE_STATUS = "guest-fsfreeze-status"
#: seconds a command in the guest may take
COMMAND_SECONDS = 60
#: bytes of standard output, and of standard error, that are read from one command
OUTPUT_BYTES = 2 * 1024 * 1024
#: characters of one answer that are parsed: both outputs of a command, as base64, and the JSON around them
_ANSWER_CHARACTERS = 2 * (OUTPUT_BYTES * 4 // 3) + 4096


@dataclass(frozen=True)
class System:
    """The guest's system, by guest-get-osinfo: os-release(5)'s ID and PRETTY_NAME."""

    id: str
    name: str

    @property
    def is_windows(self) -> bool:
        return self.id == "mswindows"  # qga/commands-win32.c

    @property
    def is_another(self) -> bool:
        """True if it is a Unix that is no Linux. Its disks have other names and its tools other options."""
        return othersystem.named(self.id) is not None

    @property
    def filters_commands(self) -> bool:
        """True if this distribution starts the agent with most commands disabled, and confines it with SELinux."""
        return self.id in ("rhel", "centos", "fedora", "rocky", "almalinux", "ol")


@dataclass(frozen=True)
class Output:
    """The exit status and the output of a command in the guest."""

    status: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Agent:
    """The guest agent of one running domain."""

    domain: libvirt.virDomain
    name: str

    def command(
        self,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        seconds: int = ANSWER_SECONDS,
    ) -> Any:
        """Call the agent's command *name* and return its answer, parsed.

        Raises AgentAbsent, AgentBlocked, AgentFrozen, or ProbeError if the answer is malformed.
        """
        call: dict[str, Any] = {"execute": name}
        if arguments:
            call["arguments"] = arguments
        try:
            answer = libvirt_qemu.qemuAgentCommand(
                self.domain, json.dumps(call), seconds, 0
            )
        except libvirt.libvirtError as exc:
            raise self._problem(name, exc) from exc
        except UnicodeDecodeError as exc:  # of the binding, which makes a str of it
            raise ProbeError(
                f"{self.name}: the guest agent's answer to {name} is no UTF-8"
            ) from exc
        if len(answer) > _ANSWER_CHARACTERS:
            raise ProbeError(
                f"{self.name}: the guest agent's answer to {name} has {len(answer)} characters"
            )
        try:
            return json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            raise ProbeError(
                f"{self.name}: the guest agent's answer to {name} cannot be parsed"
            ) from exc

    def _problem(self, name: str, exc: libvirt.libvirtError) -> ProbeError:
        """Return the error that a call of *name* ended with; a frozen agent disables most commands."""
        problem = self._read_error(name, exc)
        if not isinstance(problem, AgentBlocked) or name == _FREEZE_STATUS:
            return problem
        if not self._is_frozen():
            return problem
        return AgentFrozen(
            f"{self.name}: its filesystems are frozen (guest-fsfreeze-freeze: a backup, a snapshot?): "
            "look again once they are thawed"
        )

    def _is_frozen(self) -> bool:
        """True if its filesystems are frozen.

        Most commands are disabled meanwhile, with the message for those that are never allowed (QEMU's qga/main.c).
        """
        try:
            return bool(self.command(_FREEZE_STATUS) == "frozen")
        except ProbeError:
            return False

    def _read_error(self, command: str, exc: libvirt.libvirtError) -> ProbeError:
        text = exc.get_error_message() or str(exc)
        code = exc.get_error_code()
        # QEMU's qapi/qmp-dispatch.c; an agent older than the command has not found it
        if "has been disabled" in text or "has not been found" in text:
            return AgentBlocked(
                f"{self.name}: the guest agent does not allow {command}: {_one_line(text)}"
            )
        if code in (
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return AgentAbsent(
                f"{self.name}: the guest agent does not answer: {_one_line(text)}"
            )
        if code in (
            libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
            libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
        ):
            return AgentAbsent(
                f"{self.name}: there is no guest agent channel: {_one_line(text)}"
            )
        return ProbeError(
            f"{self.name}: the guest agent failed {command}: {_one_line(text)}"
        )

    def system(self) -> System | None:
        """Return the system that the agent runs in, without running anything there; None if it does not report it."""
        try:
            answer = self.command("guest-get-osinfo")  # since QEMU 2.10
        except ProbeError:
            return None
        if not isinstance(answer, dict) or not isinstance(answer.get("id"), str):
            return None
        return System(
            answer["id"], str(answer.get("pretty-name") or answer["id"])[:100]
        )

    def interfaces(self, *, seconds: int = ANSWER_SECONDS) -> list[Interface]:
        """Return its network interfaces: a typed call, which is allowed even if guest-exec is not.

        Raises what `command` does, and AgentGarbled.
        """
        name = "guest-network-get-interfaces"
        return self._typed(name, agent_answers.interfaces, seconds)

    def filesystems(self, *, seconds: int = ANSWER_SECONDS) -> list[AgentFilesystem]:
        """Return its mounted filesystems. Raises what `command` does, and AgentGarbled."""
        return self._typed("guest-get-fsinfo", agent_answers.filesystems, seconds)

    def trim(self, *, seconds: int) -> list[PathTrim]:
        """Trim its filesystems. Raises what `command` does, and AgentGarbled."""
        return self._typed("guest-fstrim", agent_answers.trims, seconds)

    def _typed(self, name: str, parse: Callable[[Any], T], seconds: int) -> T:
        answer = self.command(name, seconds=seconds)
        try:
            return parse(answer)
        except ValueError as exc:
            raise AgentGarbled(
                f"{self.name}: the guest agent's answer to {name} cannot be parsed: {exc}"
            ) from exc

    def allows(self, command: str) -> bool:
        """True if its administrator allows *command*. Raises ProbeError if it does not answer guest-info."""
        answer = self.command("guest-info")
        listed = answer.get("supported_commands") if isinstance(answer, dict) else None
        if not isinstance(listed, list):
            raise ProbeError(
                f"{self.name}: the guest agent's answer to guest-info has no commands"
            )
        named = (
            entry
            for entry in listed
            if isinstance(entry, dict) and entry.get("name") == command
        )
        return any(entry.get("enabled") is True for entry in named)

    def execute(
        self,
        path: str,
        arguments: list[str],
        *,
        stdin: bytes = b"",
        seconds: int = COMMAND_SECONDS,
    ) -> Output:
        """Run a program in the guest and wait for it.

        Raises ProbeError if it does not end within *seconds* or prints more than OUTPUT_BYTES.
        """
        call: dict[str, Any] = {"path": path, "arg": arguments, "capture-output": True}
        if stdin:
            call["input-data"] = base64.b64encode(stdin).decode()
        started = self.command("guest-exec", call)
        try:
            pid = number(started, "pid")
        except ValueError as exc:
            raise ProbeError(
                f"{self.name}: the guest agent's answer to guest-exec has no pid"
            ) from exc
        deadline = time.monotonic() + seconds
        pause = 0.02
        while True:
            state = self.command("guest-exec-status", {"pid": pid})
            if not isinstance(state, dict):
                raise ProbeError(
                    f"{self.name}: the guest agent's answer to guest-exec-status is no object"
                )
            if state.get("exited") is True:
                return self._output(state)
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"{self.name}: a command in the guest did not end within {seconds} s"
                )
            worker.sleep(pause)
            pause = min(pause * 1.5, 0.5)

    def _output(self, state: dict[str, Any]) -> Output:
        try:
            is_signal = "exitcode" not in state
            status = number(state, "signal" if is_signal else "exitcode")
        except ValueError as exc:
            raise ProbeError(
                f"{self.name}: the guest agent gave no exit status"
            ) from exc
        if is_signal:
            status += 128  # as a shell reports it
        if state.get("out-truncated") or state.get("err-truncated"):
            raise ProbeError(
                f"{self.name}: a command in the guest wrote more output than the agent carries"
            )
        return Output(
            status,
            self._bytes(state.get("out-data", "")),
            self._bytes(state.get("err-data", "")),
        )

    def _bytes(self, data: Any) -> bytes:
        if not isinstance(data, str) or len(data) > OUTPUT_BYTES * 4 // 3 + 4:
            raise ProbeError(
                f"{self.name}: the output of a command in the guest has more than {OUTPUT_BYTES} bytes"
            )
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ProbeError(
                f"{self.name}: the guest agent's output is not base64"
            ) from exc


class AgentBackend(BaseBackend):  # type: ignore[misc]
    """testinfra's view of a guest: `run` goes through guest-exec, without network or credentials.

    Commands are limited to COMMAND_SECONDS in the guest (by timeout(1) if it is there), and
    to OUTPUT_BYTES.
    """

    NAME = "qga"

    def __init__(self, agent: Agent, *, seconds: int = COMMAND_SECONDS) -> None:
        super().__init__(agent.name)
        self.agent = agent
        self.seconds = seconds

    @property
    def encoding(self) -> str:
        return "utf-8"  # testinfra would start a python3 in the guest to find out

    def decode(self, data: bytes) -> str:
        return data.decode("utf-8", errors="replace")

    def run(self, command: str, *args: str, **kwargs: Any) -> CommandResult:
        command = self.get_command(command, *args)
        seconds = int(kwargs.get("seconds") or self.seconds)
        limited = (
            'if command -v timeout >/dev/null 2>&1; then exec timeout -k 5 "$0" /bin/sh -c "$1"; '
            'else exec /bin/sh -c "$1"; fi'
        )
        output = self.agent.execute(
            "/bin/sh", ["-c", limited, str(seconds), command], seconds=seconds + 10
        )
        return self.result(
            output.status, self.encode(command), output.stdout, output.stderr
        )


def shell(agent: Agent) -> Host:
    """Return a testinfra Host in the guest. Built directly: hostspecs cannot carry every domain name."""
    backend = AgentBackend(agent)
    host = Host(backend)
    backend.set_host(host)
    return host


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]
