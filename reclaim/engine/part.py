"""The options of the command line, and one hypervisor's part of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from reclaim.engine.engine import Engine, Mode, Subject
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes

if TYPE_CHECKING:
    from reclaim.record import record
    from reclaim.space import fullness, measured


@dataclass(frozen=True)
class Options:
    """The options of the command line."""

    hosts: tuple[str, ...] = ()
    uri: str | None = None
    guests: tuple[str, ...] = ()
    inventory: Path | None = None
    backups: tuple[Path, ...] = ()
    mode: Mode = "audit"
    restart: bool = False
    #: guests that are mended side by side
    parallel: int = 1
    force: bool = False
    boot_stopped: bool = False
    prove: bool = False
    definitions_only: bool = False
    reports: Path = Path("reports")
    keep: int | None = None
    metrics: Path | None = None
    #: the file of --run-json
    run_json: Path | None = None
    #: the words of the command of --notify
    notify: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    #: the folder in which the run was started
    started_in: Path | None = None


@dataclass
class Part:
    """One hypervisor's part of a run."""

    hypervisor: Hypervisor
    guests: list[Guest]
    engine: Engine
    folder: Path
    #: why the hypervisor could not be reached; "" if it was
    unreached: str = ""
    #: the subjects of the requirements on backups
    copies: list[Subject] = field(default_factory=list)
    jobs: list[Subject] = field(default_factory=list)
    storage: dict[tuple[str, str], measured.DiskSpace] = field(default_factory=dict)
    #: the host's filesystems that hold images
    filesystems: dict[str, fullness.FilesystemSpace] = field(default_factory=dict)
    #: why there is no folder for its reports
    homeless: str = ""
    #: its record, once the run is closed, and the text of that; `is_written`: results.json has it
    found: record.Record | None = None
    text: str = ""
    is_written: bool = False
    #: why `latest` does not lead to it
    unlinked: str = ""

    def has_copies_here(self, folders: Sequence[BackupNotes]) -> bool:
        """True if copies of its guests' disks may lie on this machine: in *folders*, or as the inventory declares."""
        declared = [*self.hypervisor.inventory.backup, *folders]
        return self.hypervisor.is_local and bool(declared)
