"""The ways in which the client reaches a host: a shell by ssh, and libvirt by ssh."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lab.netns import site
from lab.netns.fleet import Fleet

Done = subprocess.CompletedProcess[str]


def ssh(fleet: Fleet, name: str, *words: str, options: Sequence[str] = ()) -> Done:
    """Run a command in a host by ssh, which waits three seconds for a connection."""
    return fleet.site.run(["ssh", "-o", "ConnectTimeout=3", *options, name, *words])


def virsh(fleet: Fleet, name: str, *words: str, seconds: float = site.SECONDS) -> Done:
    """Ask the libvirt of a host by ssh. Raises LabError after `seconds`."""
    return fleet.site.run(["virsh", "--quiet", "-c", uri(name), *words], seconds=seconds)


def uri(name: str) -> str:
    """Return the URI of the libvirt of a host."""
    return f"qemu+ssh://root@{name}/system"


def listed(fleet: Fleet, name: str) -> list[str]:
    """Return the guests of a host, as the client's libvirt lists them."""
    done = virsh(fleet, name, "list", "--all", "--name")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
