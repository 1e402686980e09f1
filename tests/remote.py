"""A hypervisor whose guests are a test driver's here, and whose shell is another machine's by ssh."""

from __future__ import annotations

from pathlib import Path

from reclaim.handles.hypervisor import Hypervisor, connect
from reclaim.inventory import Inventory
from tests.support import disk_xml, domain_xml, node


def remote(folder: Path) -> Hypervisor:
    """Its one guest writes its console into `console.log` in *folder*."""
    log = f"<serial type='file'><source path='{folder}/console.log'/></serial>"
    return connect(node(folder, domain_xml(disk_xml(), log)), "ssh://root@kvm1", Inventory())
