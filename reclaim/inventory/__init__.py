"""The file in which the user declares backups, policies, waivers and maintenance windows."""

from reclaim.inventory.reading import InventoryFile, read_file, read_inventory
from reclaim.inventory.tables import (
    NO_NOTES,
    BackupNotes,
    GuestNotes,
    Inventory,
    Policy,
    Ssh,
    SshOfGuests,
    table_of,
)
from reclaim.inventory.waivers import Waiver
from reclaim.inventory.windows import Window

__all__ = [
    "NO_NOTES",
    "BackupNotes",
    "GuestNotes",
    "Inventory",
    "InventoryFile",
    "Policy",
    "Ssh",
    "SshOfGuests",
    "Waiver",
    "Window",
    "read_file",
    "read_inventory",
    "table_of",
]
