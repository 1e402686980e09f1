"""Hypervisors of the tests' own that are reached by ssh: an sshd on the loopback, and a libvirtd behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.corpus import private
from tests.sshd import Sshd, listening
from tests.support import uuid_of


@dataclass(frozen=True)
class Hypervisor:
    """One whose sshd is `sshd`, and whose libvirtd has the URI `local` on this machine."""

    sshd: Sshd
    local: str
    config: Path

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.sshd.port}"

    @property
    def host(self) -> str:
        """The word for --hosts, with an ssh_config that has the key, and knows the machine's."""
        return f"ssh://root@{self.place}?ssh_config={self.config}"

    @property
    def logins(self) -> int:
        """How many connections have logged in."""
        return (self.sshd.folder / "log").read_text(encoding="utf-8").count("Accepted publickey for root")


@contextmanager
def reached_by_ssh(folder: Path, name: str, guests: Sequence[str]) -> Iterator[Hypervisor]:
    """A hypervisor with *guests*, which are off."""
    folder.mkdir()
    definitions = {guest: _definition(guest) for guest in guests}
    conf = f'host_uuid = "{uuid_of(name)}"\n'
    with private.libvirtd(folder, definitions, conf) as local:
        socket = Path(parse_qs(urlsplit(local).query)["socket"][0])
        with listening(folder / "sshd", uuid_of(name), libvirt=socket.parent) as sshd:
            known = sshd.settings().known_hosts
            config = folder / "ssh_config"
            lines = (f"UserKnownHostsFile {known}", f"IdentityFile {sshd.key}", "IdentitiesOnly yes")
            config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            yield Hypervisor(sshd, local, config)


def _definition(name: str) -> str:
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>{uuid_of(name)}</uuid><memory>65536</memory>"
        "<os><type arch='x86_64'>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/images/{name}.qcow2'/>"
        "<target dev='vda' bus='virtio'/></disk></devices></domain>"
    )
