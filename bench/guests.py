"""Real guests for the topics of bench: made by the lab, removed at the end, and reached as peers reach them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import libvirt

from bench.page import ROOT
from bench.rounds import Failed, Taken, ran
from lab import demo, host, image, ssh
from lab import guest as lab
from lab.error import LabError
from lab.guest import LabGuest

RECIPE = "both"
#: a busy host starts a guest slowly
BOOT_SECONDS = 900.0
#: exit statuses of an audit that looked at everything that it should
AUDITED = (0, 1, 6)


@contextmanager
def guest(
    name: str,
    *,
    recipe: str = RECIPE,
    discard: str | None = "unmap",
    devices: Sequence[str] = (),
) -> Iterator[LabGuest]:
    """Run a guest of today's newest machine type, with *devices* in XML. Raises Failed if there can be none here."""
    if reasons := host.missing():
        raise Failed(f"no real guest can run here: {'; '.join(reasons)}")
    try:
        lab.destroy(name)
        made = lab.define(name, recipe, machine="pc", discard=discard)
        try:
            for device in devices:
                lab.lookup(name).attachDeviceFlags(
                    device, libvirt.VIR_DOMAIN_AFFECT_CONFIG
                )
            up(made)
            # people's guests greet nobody who runs commands
            run(made, "sed -i /Welcome/d /home/admin/.bashrc 2>/dev/null || true")
            yield made
        finally:
            lab.destroy(name)
    except (LabError, libvirt.libvirtError) as problem:
        raise Failed(str(problem)) from problem


def up(made: LabGuest) -> None:
    """Start it, and wait until it answers. Raises LabError."""
    lab.start(made)
    lab.wait(made, BOOT_SECONDS)


def run(made: LabGuest, script: str, seconds: float = 900) -> str:
    """Run *script* in the guest by its agent, and return its output. Raises Failed."""
    done = lab.run(made, script, seconds)
    if done.code != 0:
        raise Failed(f"{made.name}: status {done.code}: {done.err[-300:]}")
    return done.out


def reclaim(
    made: LabGuest | str,
    reports: Path,
    *options: str,
    expected: tuple[int, ...] = AUDITED,
) -> Taken:
    """Run `pytest checks/` for one guest or a glob, as a user does. Raises Failed."""
    name = made if isinstance(made, str) else made.name
    command = demo.command_for(name, reports, *options)
    return ran(*command, cwd=ROOT, env={"PYTEST_ADDOPTS": ""}, expected=expected)


@dataclass(frozen=True)
class ByHand:
    """The files with which other programs reach a guest: an ssh_config, and inventories of Ansible and of reclaim."""

    made: LabGuest
    folder: Path

    def write(self) -> None:
        assert self.made.ssh_port is not None
        known = self.folder / "known_hosts"
        known.write_text(ssh.known_hosts(self.made.ssh_port), encoding="ascii")
        key = image.identity(RECIPE)
        common = (
            f"Host guest\n  HostName 127.0.0.1\n  Port {self.made.ssh_port}\n  User {ssh.USER}\n  IdentityFile {key}\n"
            f"  IdentitiesOnly yes\n  UserKnownHostsFile {known}\n  LogLevel ERROR\n"
        )
        self.config.write_text(common, encoding="ascii")
        kept = "  ControlMaster auto\n  ControlPersist 60\n"
        self.kept_config.write_text(
            f"{common}{kept}  ControlPath {self.folder}/%C\n", encoding="ascii"
        )
        self.by_ssh.write_text(
            f"guest ansible_host=127.0.0.1 ansible_port={self.made.ssh_port} ansible_user={ssh.USER} "
            f"ansible_ssh_private_key_file={key} ansible_ssh_common_args='-o UserKnownHostsFile={known}'\n",
            encoding="ascii",
        )
        self.by_agent.write_text(
            f"{self.made.name} ansible_connection=community.libvirt.libvirt_qemu ansible_libvirt_uri={host.URI}\n",
            encoding="ascii",
        )
        self.ours.write_text(
            f'[guest.{self.made.name}.ssh]\nuser = "{ssh.USER}"\naddress = "127.0.0.1"\nport = {self.made.ssh_port}\n'
            f'key = "{key}"\nknown_hosts = "{known}"\nsudo = true\nprefer = true\n',
            encoding="ascii",
        )

    @property
    def config(self) -> Path:
        """ssh's, without a connection that is kept."""
        return self.folder / "config"

    @property
    def kept_config(self) -> Path:
        """ssh's, with ControlPersist."""
        return self.folder / "config-kept"

    @property
    def by_ssh(self) -> Path:
        """Ansible's inventory."""
        return self.folder / "by-ssh"

    @property
    def by_agent(self) -> Path:
        """Ansible's inventory with the connection of community.libvirt."""
        return self.folder / "by-agent"

    @property
    def ours(self) -> Path:
        """reclaim's inventory, by ssh."""
        return self.folder / "inventory.toml"

    def hang_up(self) -> None:
        """End the connections that are kept, so that each sample begins without one."""
        for socket in self.folder.iterdir():
            if socket.is_socket():
                command = [
                    "ssh",
                    "-F",
                    "none",
                    "-o",
                    f"ControlPath={socket}",
                    "-O",
                    "exit",
                    "guest",
                ]
                subprocess.run(command, capture_output=True, check=False)
