"""A hypervisor on another machine whose ssh breaks: nobody could look, and what is under way goes on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from reclaim.console import console
from reclaim.errors import ProbeError
from reclaim.hypervisor import connect
from reclaim.inventory import Inventory
from tests.support import disk_xml, domain_xml, node

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.hypervisor import Hypervisor


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


def test_it_is_no_fault_of_ours_and_no_finding(broken: Path) -> None:
    hypervisor = _remote(broken)
    words = "^ssh to kvm1: kex_exchange_identification: Connection closed by remote host$"
    with pytest.raises(ProbeError, match=words):
        hypervisor.allocated("/images/vda.qcow2")
    assert hypervisor.allocated_each(["/images/vda.qcow2"]) == {}


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
