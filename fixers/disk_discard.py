from reclaim.change import Change, changed_definition
from reclaim.guest import Disk


def set_discard_unmap(disk: Disk) -> list[Change]:
    """Set `discard='unmap'` on the disk's driver, everything else on it kept."""
    edit = disk.guest.definition.edit()
    edit.driver(edit.disk(disk.target)).set("discard", "unmap")
    return [changed_definition(edit)]
