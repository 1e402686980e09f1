"""The serial console of a guest: the part of its log that was written since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reclaim.handles.console import console
from reclaim.handles.hypervisor import connect
from reclaim.inventory import Inventory
from tests.support import (
    Inside,
    disk_xml,
    domain_xml,
    inhabited,
    node,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.handles.hypervisor import Hypervisor


VDA = disk_xml("vda")


def test_a_console_that_virtlogd_began_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("x\n" * 1000)
    guest = inhabited(tmp_path, Inside(), VDA, f"<serial type='file'><source path='{log}'/></serial>")
    said = console(guest)
    assert "nothing was said on its serial console" in said.tail
    log.write_text("after\n")
    assert said.lines == ["after"]


def test_what_steers_a_terminal_is_left_out_of_the_console(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text("")
    said = console(inhabited(tmp_path, Inside(), VDA, f"<serial type='file'><source path='{log}'/></serial>"))
    log.write_text("\x1b[?25l\x1b[0;1;31m TIME \x1b[0m] Timed out\x1b[K\r\n\x1b[2J\x1bc\r\nlogin:\n")
    assert said.lines == [" TIME ] Timed out", "login:"]


def test_without_a_log_of_the_console_that_is_said(tmp_path: Path) -> None:
    assert "its serial console is not logged" in console(inhabited(tmp_path, Inside(), VDA)).tail


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an ssh that is cut off as OpenSSH's is, until a file `works` lies there."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\n[ -e "${0%/*}/works" ] && { for last; do :; done; exec /bin/sh -c "$last"; }\n'
        "echo 'kex_exchange_identification: Connection closed by remote host' >&2\nexit 255\n"
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path


def _remote(folder: Path) -> Hypervisor:
    log = f"<serial type='file'><source path='{folder}/console.log'/></serial>"
    return connect(node(folder, domain_xml(disk_xml(), log)), "ssh://root@kvm1", Inventory())


def test_a_guest_is_brought_back_without_the_words_of_its_console(broken: Path) -> None:
    """A roll-back begins with the console's last lines; what it said before must not be taken for what it says now."""
    (broken / "console.log").write_text("Kernel panic - not syncing, long ago\n")
    (broken / "works").touch()
    guest = _remote(broken).guests[0]
    said = console(guest)
    assert said.dead_end is None
    (broken / "works").unlink()
    assert (said.dead_end, said.lines) == (None, [])
    assert "nothing was said" in said.tail
    blind = console(guest)
    (broken / "works").touch()
    assert blind.dead_end is None
