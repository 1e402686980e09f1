"""Connections to libvirt: which are bounded, also when they are made anew."""

from __future__ import annotations

import sys

import pytest

from reclaim.handles import connection
from tests.command import ran
from tests.stalls import machine

ANEW = """
import testinfra
from reclaim.handles import connection
from reclaim.handles.node import Node
from reclaim.inventory import Inventory
connection.CONNECT_SECONDS = 1
try:
    Node({uri!r}, None, testinfra.get_host("local://"), Inventory()).reconnect(0)
except Exception as exc:
    print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize(
    ("uri", "asks", "seconds"),
    [
        ("qemu:///system", True, None),
        ("qemu+unix:///system", False, None),
        ("test:///default", False, None),
        ("qemu+tls://kvm1/system", True, 18),
        ("qemu+tcp://kvm1/system", False, 18),
        ("qemu+libssh2://kvm1/system", True, 18),
        ("qemu+ssh://kvm1/system", False, 18),
        ("qemu+ssh://kvm1/system", True, None),
    ],
)
def test_only_a_person_and_this_machine_have_all_the_time(
    monkeypatch: pytest.MonkeyPatch, uri: str, seconds: int | None, *, asks: bool
) -> None:
    monkeypatch.setattr(connection, "can_ask", lambda: asks)
    assert connection.seconds_for(uri, uri) == seconds


def test_what_goes_by_the_one_connection_is_bounded_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """That has asked before."""
    monkeypatch.setattr(connection, "can_ask", lambda: True)
    assert connection.seconds_for("qemu+ssh://kvm1/system", "qemu+ssh://kvm1/system?command=/x/ssh") == 18


def test_a_silent_daemon_is_given_up_when_it_is_connected_to_anew() -> None:
    """In a process of its own, which then has libvirt's event loop."""
    with machine("silent") as place:
        done = ran(sys.executable, "-c", ANEW.format(uri=f"qemu+tcp://{place}/system"), seconds=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ProbeError qemu+tcp://127.0.0.1:"), done.stdout
    assert "libvirt closed the connection: no answer within" in done.stdout
