"""Guests whose agent is played, on a libvirtd of the tests' own: what the real binding makes of a hostile answer."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt
import libvirt_qemu

from reclaim.processes import binding
from tests.corpus import private
from tests.guest import emulator
from tests.support import Inside, printed, uuid_of

_SECONDS = 60
_DOMAIN = """
<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    <emulator>{folder}/emulator</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{folder}/{name}.img'/><target dev='vda' bus='virtio'/>
    </disk>
    <controller type='usb' model='none'/>
    <memballoon model='none'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  </devices>
</domain>
"""


@dataclass(frozen=True)
class Stage:
    """A libvirtd, and the folder of its guests."""

    uri: str
    folder: Path
    connection: libvirt.virConnect

    def enter(self, name: str, mode: str, inside: Inside | None = None) -> libvirt.virDomain:
        """Start the guest *name*; its agent is calm until it answers, then behaves as *mode* says.

        After one answer that is no JSON libvirt asks an agent no more until the guest is started anew. A handshake is
        made once for each start, so what spoils that begins with it.
        """
        spoils_handshake = mode.endswith("-sync")
        self.behave(name, mode if spoils_handshake else "calm")
        (self.folder / f"{name}.asked").unlink(missing_ok=True)
        (self.folder / f"{name}.facts").write_bytes(printed((inside or Inside()).sections()))
        with (self.folder / f"{name}.img").open("wb") as image:
            image.truncate(8 << 20)
        domain = self.connection.defineXML(_DOMAIN.format(name=name, uuid=uuid_of(name), folder=self.folder))
        if domain.isActive():
            domain.destroy()
        domain.create()
        end = time.monotonic() + _SECONDS
        while not (_is_connected(domain) if spoils_handshake else _answers(domain)):
            assert time.monotonic() < end
            time.sleep(0.1)
        self.behave(name, mode)
        return domain

    def behave(self, name: str, mode: str) -> None:
        (self.folder / f"{name}.mode").write_text(mode, encoding="utf-8")

    def leave(self, name: str) -> None:
        domain = self.connection.lookupByName(name)
        if domain.isActive():
            domain.destroy()
        domain.undefine()

    def clear(self) -> None:
        """No guests."""
        for domain in self.connection.listAllDomains():
            self.leave(domain.name())


def _answers(domain: libvirt.virDomain) -> bool:
    try:
        libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-ping"}', 5, 0)
    except libvirt.libvirtError:
        return False
    return True


def _is_connected(domain: libvirt.virDomain) -> bool:
    """Has the agent opened its end of the channel?"""
    return "state='connected'" in domain.XMLDesc(0)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """A libvirtd without guests. Raises as `private.libvirtd` does."""
    place = folder / "play"
    place.mkdir()
    script = Path(emulator.__file__).read_text(encoding="utf-8")
    (place / "emulator").write_text(f"#!{sys.executable}\n{script}", encoding="utf-8")
    (place / "emulator").chmod(0o755)
    binding.prepare()
    with private.libvirtd(folder) as uri:
        connection = libvirt.open(uri)
        one = Stage(uri, place, connection)
        try:
            yield one
        finally:
            one.clear()
            connection.close()
            shutil.rmtree(place)
