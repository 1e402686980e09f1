"""Stands before QEMU, for guests whose agent is played: their processors never run, and nothing boots.

libvirt talks to the real QEMU: its monitor passes through, with the event added by which libvirt learns that somebody
has opened the agent's channel. The channel itself ends here. The folder of this file has for each guest NAME.mode, how
its agent behaves (see `_ANSWERS`; read anew at each call), and NAME.facts, what the facts script prints in it.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_QEMU = "/usr/bin/qemu-system-x86_64"
_HERE = Path(__file__).resolve().parent
_MIB = 1024 * 1024


def main(arguments: list[str]) -> None:
    monitor, channel = _descriptor(arguments, "charmonitor"), _descriptor(arguments, "charchannel0")
    if monitor is None or channel is None:  # libvirt asks what this QEMU can do
        os.execv(_QEMU, [_QEMU, *arguments])
    name = next(word for word in arguments if word.startswith("guest="))[6:].partition(",")[0]
    inner = _HERE / f"{name}.monitor"
    inner.unlink(missing_ok=True)
    changed = {
        "charmonitor": f"socket,id=charmonitor,path={inner},server=on,wait=off",
        "charchannel0": "null,id=charchannel0",
    }
    qemu = subprocess.Popen([_QEMU, *(changed.get(_label(word), word) for word in arguments)], close_fds=False)
    signal.signal(signal.SIGTERM, lambda *_: qemu.terminate())
    _Monitor(socket.socket(fileno=monitor).accept()[0], _connected(inner)).start()
    agent = _Agent(name, socket.socket(fileno=channel))
    threading.Thread(target=agent.serve, daemon=True).start()
    status = qemu.wait()
    inner.unlink(missing_ok=True)
    os._exit(max(status, 0))


def _label(word: str) -> str:
    match = re.match(r"socket,id=(\w+)", word)
    return match[1] if match else ""


def _descriptor(arguments: list[str], label: str) -> int | None:
    found = (re.match(rf"socket,id={label},fd=(\d+)", word) for word in arguments)
    return next((int(match[1]) for match in found if match), None)


def _connected(path: Path) -> socket.socket:
    while True:
        one = socket.socket(socket.AF_UNIX)
        try:
            one.connect(str(path))
        except OSError:
            one.close()
            time.sleep(0.02)
        else:
            return one


class _Monitor:
    """QEMU's monitor, but for the command that starts the processors."""

    def __init__(self, libvirt: socket.socket, qemu: socket.socket) -> None:
        self._libvirt, self._qemu = libvirt, qemu
        self._lock = threading.Lock()

    def start(self) -> None:
        for work in (self._down, self._up):
            threading.Thread(target=work, daemon=True).start()

    def _say(self, *values: dict[str, Any]) -> None:
        with self._lock:
            self._libvirt.sendall(b"".join(json.dumps(value).encode() + b"\r\n" for value in values))

    def _event(self, name: str, **data: Any) -> dict[str, Any]:
        return {"timestamp": {"seconds": int(time.time()), "microseconds": 0}, "event": name, "data": data}

    def _down(self) -> None:
        while data := self._qemu.recv(65_536):
            with self._lock:
                self._libvirt.sendall(data)

    def _up(self) -> None:
        for line in self._libvirt.makefile("rb"):
            if b'"cont"' in line:
                opened = self._event("VSERPORT_CHANGE", open=True, id="channel0")
                self._say(self._event("RESUME"), {"return": {}, "id": json.loads(line).get("id")}, opened)
            else:
                self._qemu.sendall(line)
        self._qemu.close()


class _Agent:
    """Somebody at the other end of the channel."""

    def __init__(self, name: str, listener: socket.socket) -> None:
        self._mode, self._facts = _HERE / f"{name}.mode", _HERE / f"{name}.facts"
        #: made once somebody asks how a command ended
        self.asked = _HERE / f"{name}.asked"
        self._listener = listener
        self.ended: list[bytes] = []

    def serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        for line in client.makefile("rb"):
            try:
                call = json.loads(line.lstrip(b"\xff"))
            except ValueError:
                continue
            mode, *words = self._mode.read_text("utf-8").split()
            try:
                for piece in _ANSWERS[mode](self, call, *words):
                    client.sendall(piece)
            except OSError:
                return

    def calm(self, call: dict[str, Any]) -> Any:
        """What a good agent says. Of commands it runs the facts script alone."""
        name, given = call["execute"], call.get("arguments", {})
        if name.startswith("guest-sync"):
            return _returned(given["id"])
        if name == "guest-exec":
            is_facts = "block_devices()" in given["arg"][-1]
            self.ended.append(self._facts.read_bytes() if is_facts else b"")
            return _returned({"pid": len(self.ended)})
        if name == "guest-exec-status":
            output = base64.b64encode(self.ended[given["pid"] - 1]).decode()
            return _returned({"exited": True, "exitcode": 0, "out-data": output})
        if name in ("guest-ping", "guest-get-fsinfo", "guest-network-get-interfaces"):
            return _returned({} if name == "guest-ping" else [])
        return [
            json.dumps({"error": {"class": "CommandNotFound", "desc": f"{name} has not been found"}}).encode(),
            b"\n",
        ]


def _returned(value: Any) -> list[bytes]:
    return [json.dumps({"return": value}).encode(), b"\n"]


def _hostile(answer: Callable[..., Any]) -> Callable[..., Any]:
    """*answer* but for the handshake: libvirt would not even ask."""

    def given(agent: _Agent, call: dict[str, Any], *words: str) -> Any:
        return agent.calm(call) if call["execute"].startswith("guest-sync") else answer(agent, call, *words)

    return given


def _status(answer: Callable[..., Any], after: int = 0) -> Callable[..., Any]:
    """*answer* to the question how a command ended, from the command after so many on."""

    def given(agent: _Agent, call: dict[str, Any], *words: str) -> Any:
        if call["execute"] != "guest-exec-status" or len(agent.ended) <= after:
            return agent.calm(call)
        agent.asked.touch()
        return answer(*words)

    return given


def _endless() -> Any:
    yield b'{"return":"'
    while True:
        yield b"A" * 65_536


def _drip() -> Any:
    while True:
        yield b" "
        time.sleep(0.2)


def _flood(mebibytes: str, letter: str = "A") -> Any:
    yield b'{"return":{"exited":true,"exitcode":0,"out-data":"'
    for _ in range(int(mebibytes)):
        yield letter.encode() * (_MIB // len(letter.encode()))
    yield b'"}}\n'


_ANSWERS: dict[str, Callable[..., Any]] = {
    "calm": _Agent.calm,
    "silent": lambda *_: [],
    "no-sync": lambda agent, call: [] if call["execute"].startswith("guest-sync") else agent.calm(call),
    "wrong-sync": lambda _, call: _returned(call.get("arguments", {}).get("id", 0) + 1),
    "no-json": _hostile(lambda *_: [b"{]]\x1b[31m\xff\xfe\n"]),
    "no-utf8": _hostile(lambda *_: [b'{"return":"\xff\xfe\x1b[31m"}\n']),
    "no-utf8-error": _hostile(lambda *_: [b'{"error":{"class":"GenericError","desc":"\xff\xfe<script>"}}\n']),
    # what libvirt's parser of JSON lets pass, and Python does not
    "surrogate": _hostile(lambda *_: [b'{"return":"\xed\xa0\x80"}\n']),
    "surrogate-error": _hostile(lambda *_: [b'{"error":{"class":"GenericError","desc":"\xed\xa0\x80<script>"}}\n']),
    "late-surrogate": _status(lambda: [b'{"return":"\xed\xa0\x80"}\n'], after=1),
    "late-no-utf8": _status(lambda: [b'{"return":"\xff\xfe"}\n'], after=1),
    "endless": _hostile(lambda *_: _endless()),
    "drip": _hostile(lambda *_: _drip()),
    "flood": _status(_flood),
    "running": _status(lambda: _returned({"exited": False})),
}

if __name__ == "__main__":
    main(sys.argv[1:])
