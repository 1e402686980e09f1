from reclaim.changes.change import Change
from reclaim.changes.definition_change import changed_definition
from reclaim.handles.guest import Disk
from reclaim.storage.discard_no_unref import wants_no_unref, why_not_no_unref


def set_discard_unmap(disk: Disk) -> list[Change]:
    """Set `discard='unmap'` on the disk's driver, and `discard_no_unref` if the policy asks. The rest of it stays."""
    edit = disk.guest.definition.edit()
    driver = edit.driver(edit.disk(disk.target))
    driver.set("discard", "unmap")
    if wants_no_unref(disk) and not why_not_no_unref(disk.guest.hypervisor):
        driver.set("discard_no_unref", "on")
    return [changed_definition(edit)]
