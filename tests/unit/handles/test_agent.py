"""The guest agent: whatever it answers is an Output or a ProbeError, in bounded time and size."""

from __future__ import annotations

import base64
import json
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from reclaim.base.errors import AgentAbsent, AgentBlocked, AgentFrozen, ProbeError
from reclaim.handles import agent as agents
from reclaim.handles.agent import OUTPUT_BYTES, Agent, Output, shell


class _Domain:
    """What libvirt would pass on: the answers given, one after the other, the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[dict[str, Any]] = []

    def answer(self, call: str, _seconds: int, _flags: int) -> str:
        self.calls.append(json.loads(call))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, str) else json.dumps({"return": answer})


@pytest.fixture(autouse=True)
def _no_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", _Domain.answer)


def _agent(*answers: Any) -> Agent:
    return Agent(_Domain(*answers), "one")


def _error(code: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError("failed")
    error.err = (code, 0, text, 0, text, None, None, 0, 0)
    return error


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


PID = {"pid": 7}


@pytest.mark.parametrize(
    ("state", "output"),
    [
        pytest.param({"exited": True, "exitcode": 0}, Output(0, b"", b""), id="silent"),
        pytest.param(
            {"exited": True, "exitcode": 3, "out-data": _encoded(b"o\xff"), "err-data": _encoded(b"e")},
            Output(3, b"o\xff", b"e"),
            id="both",
        ),
        pytest.param({"exited": True, "signal": 9}, Output(137, b"", b""), id="killed"),
    ],
)
def test_what_a_command_left(state: dict[str, Any], output: Output) -> None:
    assert _agent(PID, {"exited": False}, state).execute("/bin/true", []) == output


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(["not json"], id="no-json"),
        pytest.param(["[" * 100_000], id="json-without-end"),
        pytest.param(['{"error": {}}'], id="no-return"),
        pytest.param(["[]"], id="a-list"),
        pytest.param(["null"], id="null"),
        pytest.param([{}], id="no-pid"),
        pytest.param([[]], id="pid-in-a-list"),
        pytest.param([{"pid": "7"}], id="pid-is-text"),
        pytest.param([{"pid": True}], id="pid-is-bool"),
        pytest.param([PID, []], id="state-is-a-list"),
        pytest.param([PID, {"exited": True}], id="no-status"),
        pytest.param([PID, {"exited": True, "exitcode": "0"}], id="status-is-text"),
        pytest.param([PID, {"exited": True, "exitcode": True}], id="status-is-bool"),
        pytest.param([PID, {"exited": True, "exitcode": None}], id="status-is-null"),
        pytest.param([PID, {"exited": True, "exitcode": None, "signal": 9}], id="status-is-null-and-a-signal"),
        pytest.param([PID, {"exited": True, "signal": False}], id="signal-is-bool"),
        pytest.param([PID, {"exited": True, "exitcode": 0, "out-truncated": True}], id="truncated"),
        pytest.param([PID, {"exited": True, "exitcode": 0, "err-truncated": True}], id="error-truncated"),
        pytest.param([PID, {"exited": True, "exitcode": 0, "out-data": 5}], id="data-is-a-number"),
        pytest.param([PID, {"exited": True, "exitcode": 0, "out-data": "?"}], id="data-is-no-base64"),
        pytest.param([PID, {"exited": True, "exitcode": 0, "out-data": "é"}], id="data-is-not-ascii"),
        pytest.param(
            [PID, {"exited": True, "exitcode": 0, "out-data": "AAAA" * (OUTPUT_BYTES // 3 + 2)}], id="a-flood"
        ),
        pytest.param(
            [PID, {"exited": True, "exitcode": 0, "err-data": "AAAA" * (OUTPUT_BYTES // 3 + 2)}], id="errors-flood"
        ),
    ],
)
def test_an_answer_that_is_none_is_a_probe_error(answers: list[Any]) -> None:
    with pytest.raises(ProbeError, match=r"^one: "):
        _agent(*answers).execute("/bin/true", [])


def test_a_command_that_never_ends_is_a_probe_error() -> None:
    agent = _agent(PID, {"exited": False})
    with pytest.raises(ProbeError, match="did not end within 0 s"):
        agent.execute("/bin/sleep", ["9"], seconds=0)


def test_only_true_is_an_end() -> None:
    with pytest.raises(ProbeError, match="did not end"):
        _agent(PID, {"exited": "yes", "exitcode": 0}).execute("/bin/true", [], seconds=0)


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        pytest.param(
            libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
            "Guest agent is not responding: QEMU guest agent is not connected",
            AgentAbsent,
            id="not-connected",
        ),
        pytest.param(
            libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED, "QEMU guest agent is not configured", AgentAbsent, id="not-configured"
        ),
        pytest.param(libvirt.VIR_ERR_OPERATION_INVALID, "domain is not running", AgentAbsent, id="off"),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            "unable to execute QEMU agent command 'guest-exec': Command guest-exec has been disabled",
            AgentBlocked,
            id="disabled",
        ),
        pytest.param(
            libvirt.VIR_ERR_INTERNAL_ERROR,
            "unable to execute QEMU agent command 'guest-exec': The command guest-exec has not been found",
            AgentBlocked,
            id="older-than-the-command",
        ),
        pytest.param(
            libvirt.VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching uuid", ProbeError, id="domain-gone"
        ),
        pytest.param(libvirt.VIR_ERR_RPC, "internal error: client socket is closed", ProbeError, id="connection-lost"),
    ],
)
def test_what_libvirt_says_of_the_agent(code: int, text: str, kind: type[ProbeError]) -> None:
    with pytest.raises(ProbeError) as caught:
        _agent(_error(code, text)).command("guest-exec")
    assert type(caught.value) is kind
    assert str(caught.value).startswith("one: ")


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param("The command guest-exec has been disabled for this instance", id="qemu-5.2"),
        pytest.param("Command guest-exec has been disabled: the agent is in frozen state", id="qemu-6.0"),
        pytest.param("Command guest-exec has been disabled: the command is not allowed", id="qemu-9.1"),
    ],
)
def test_what_is_frozen_is_not_taken_for_blocked(reason: str) -> None:
    blocked = _error(libvirt.VIR_ERR_INTERNAL_ERROR, f"unable to execute QEMU agent command 'guest-exec': {reason}")
    with pytest.raises(AgentFrozen, match="look again once they are thawed"):
        _agent(blocked, '{"return": "frozen"}').command("guest-exec")
    with pytest.raises(AgentBlocked, match="does not allow guest-exec"):
        _agent(blocked, '{"return": "thawed"}').command("guest-exec")


def test_an_error_that_fills_the_screen_is_one_line() -> None:
    with pytest.raises(ProbeError) as caught:
        _agent(_error(libvirt.VIR_ERR_INTERNAL_ERROR, "x\n" * 5000)).command("guest-ping")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_the_call_is_what_qapi_says() -> None:
    domain = _Domain(PID, {"exited": True, "exitcode": 0})
    Agent(domain, "one").execute("/bin/cat", ["-v"], stdin=b"in")
    assert domain.calls == [
        {
            "execute": "guest-exec",
            "arguments": {"path": "/bin/cat", "arg": ["-v"], "capture-output": True, "input-data": _encoded(b"in")},
        },
        {"execute": "guest-exec-status", "arguments": {"pid": 7}},
    ]


# The shell on top


def test_a_shell_runs_in_the_guest_under_a_time_limit() -> None:
    domain = _Domain(PID, {"exited": True, "exitcode": 0, "out-data": _encoded("é\udcff".encode(errors="replace"))})
    result = shell(Agent(domain, "one")).run("echo %s", "a'; reboot")
    assert result.stdout == "é?"
    arguments = domain.calls[0]["arguments"]
    assert (arguments["path"], arguments["arg"][0]) == ("/bin/sh", "-c")
    assert arguments["arg"][2:] == [str(agents.COMMAND_SECONDS), "echo 'a'\"'\"'; reboot'"]


def test_output_that_is_no_utf8_can_be_read() -> None:
    domain = _Domain(PID, {"exited": True, "exitcode": 1, "err-data": _encoded(b"\xff\xfe")})
    assert shell(Agent(domain, "one")).run("x").stderr == "\ufffd\ufffd"


@pytest.mark.parametrize("name", ["a b", "x;y", "ünï", "a/b", "[1]", "%s"])
def test_a_guest_may_be_called_anything(name: str) -> None:
    domain = _Domain(PID, {"exited": True, "exitcode": 0})
    assert shell(Agent(domain, name)).run("true").rc == 0
