"""The folder in which a run is walked: definitions, reports, copies, a job. It can be put back as it was."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt

from tests.faults.nursery import Done, Nursery
from tests.faults.points import Cut, node_of, normal
from tests.support import disk_xml, domain_xml, drive, scsi_xml

MIB = 1024 * 1024
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
JOB = "#!/bin/sh\nset -e\nrsync -a /srv/ /backup/\n"
#: of a copy, in the journal: another in each folder
_IDENTITY = re.compile(r'"(device|inode|mtime_ns)": \d+')
#: what only waits to be renamed or is held by nobody is no file of anybody's
LOCKS = re.compile(r"\.lock$")
#: what undo and `--fix` do not go by
_PAGES = re.compile(r"\.(html|json)$|\.(html|json)\..*new$")


@dataclass
class Home:
    """One such folder, and the process that does its runs."""

    root: Path
    nursery: Nursery
    options: tuple[str, ...] = ()

    @property
    def node(self) -> Path:
        return self.root / "node.xml"

    @property
    def reports(self) -> Path:
        return self.root / "reports"

    @property
    def _kept(self) -> Path:
        return self.root.parent / f"{self.root.name}.kept"

    def make(self) -> None:
        """Three guests that are off: one with much to mend, one with a little, one that is well."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        good = (disk_xml("sda", "scsi", driver="discard='unmap'", inner=drive(0)), scsi_xml())
        domains = (
            domain_xml(disk_xml("vda", source="/srv/web.img"), name="web", running=False),
            domain_xml(disk_xml("sda", "scsi", inner=drive(0)), scsi_xml(), name="db", running=False),
            domain_xml(*good, name="calm", running=False),
        )
        self.node.write_text(f"<node>{''.join(domains)}</node>", encoding="utf-8")
        self.node.write_text(self.defined(), encoding="utf-8")

    def add_backups(self, folder: Path | None = None) -> None:
        """A copy of a disk, without holes, and a job, both declared."""
        copies = folder or self.root / "copies"
        copies.mkdir(exist_ok=True)
        (copies / "web.img").write_bytes(b"\x5a" * MIB + bytes(5 * MIB) + b"\xa5" * 4096 + bytes(5 * MIB))
        (self.root / "job").mkdir()
        (self.root / "job/backup.sh").write_text(JOB)
        inventory = self.root / "inventory.toml"
        inventory.write_text(f'[[backup]]\npath = "{copies}"\njob = "{self.root}/job/backup.sh"\nguests = ["web"]\n')
        self.options = ("--inventory", str(inventory))

    def defined(self) -> str:
        """Every definition as libvirt has it. Raises libvirtError for one that is none."""
        connection = libvirt.open(f"test://{self.node}")
        try:
            return node_of(connection)
        finally:
            connection.close()

    # Runs

    def fix(self, *options: str, cut: Cut | None = None, hook: str = "") -> Done:
        return self.audit("--fix", "--force", *options, cut=cut, hook=hook)

    def audit(self, *options: str, cut: Cut | None = None, hook: str = "") -> Done:
        where = ("--uri", f"test://{self.node}", "--reports", str(self.reports), *self.options)
        return self.nursery.run(*where, *options, root=self.root, node=self.node, cut=cut, hook=hook)

    def undo(self, run: Path, cut: Cut | None = None, hook: str = "") -> Done:
        return self.nursery.run("undo", str(run), root=self.root, node=self.node, cut=cut, hook=hook)

    @property
    def runs(self) -> list[Path]:
        """The folders of all runs, in the order they were made."""
        found = [path for path in self.reports.glob("*/*") if not path.is_symlink() and not path.name.startswith(".")]
        return sorted(found, key=lambda path: (path.name[:16], path.stat().st_ctime_ns))

    def mended(self) -> list[Path]:
        """The runs that have a journal, the newest first."""
        return [run for run in reversed(self.runs) if (run / "journal.jsonl").exists()]

    # As it was

    def keep(self, kept: Path | None = None) -> None:
        shutil.rmtree(kept or self._kept, ignore_errors=True)
        subprocess.run(["cp", "-a", str(self.root), str(kept or self._kept)], check=True)

    def put_back(self, kept: Path | None = None) -> None:
        """In place: a journal knows the folders of copies by their inodes."""
        kept = kept or self._kept
        for path in sorted(self.root.rglob("*"), reverse=True):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif not (kept / path.relative_to(self.root)).is_dir():
                path.rmdir()
        subprocess.run(["cp", "-a", f"{kept}/.", str(self.root)], check=True)

    def files(self) -> Iterator[Path]:
        for path in sorted(self.root.rglob("*")):
            if path.is_file() and not path.is_symlink():
                yield path

    def bystanders(self) -> dict[str, str]:
        """Digests of the content of copies and jobs: a mend changes no byte of a copy."""
        found = [path for path in self.files() if path.parent.name in ("copies", "job")]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in found}

    def mark(self, *, pages: bool = True) -> str:
        """A digest of the state, without reports if *pages* is false: two states with one mark go on alike."""
        digest = hashlib.sha256()
        for path in self.files():
            name = normal(str(path.relative_to(self.root)))
            if LOCKS.search(name) or (not pages and _PAGES.search(name)):
                continue
            digest.update(f"\0{name}\0{self._essence(path)}".encode())
        return digest.hexdigest()

    def _essence(self, path: Path) -> str:
        """What of a file matters to what comes next: times and names of runs do not."""
        if path.suffix in (".img", ".sh") or ".reclaim" in path.name:
            data = path.read_bytes()
            return f"{hashlib.sha256(data).hexdigest()} {path.stat().st_blocks}"
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        if path.name == "journal.jsonl" or path.suffix == ".xml":
            text = normal(_TIMES.sub("TIME", _IDENTITY.sub("", text.replace(str(self.root), "ROOT"))))
            return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()
        return "whole" if is_whole(path) else "part" if text else "empty"


def is_whole(path: Path) -> bool:
    """Is the file whole, as its kind goes? The last line of a journal may be torn, by a crash."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    name = path.name.removeprefix(".").removesuffix(".new")
    try:
        if name.endswith(".jsonl"):
            for line in text.splitlines(keepends=True):
                if line.endswith("\n"):
                    json.loads(line)
        elif name.endswith(".json"):
            json.loads(text)
        elif name.endswith(".html"):
            return text.rstrip().endswith("</html>")
    except ValueError:
        return False
    return True


def changed(run: Path) -> tuple[int, bool]:
    """How many changes of a run stand or were begun, by its journal, and whether it came to its end.

    Of one whose changes were all taken back there is nothing left to tell.
    """
    path = run / "journal.jsonl"
    if not path.exists():
        return 0, True
    begun, ended = 0, False
    for line in path.read_bytes().splitlines(keepends=True):
        event = json.loads(line)["event"] if line.endswith(b"\n") else ""
        begun += (event == "intent") - (event == "undone")
        ended = event == "end" or (ended and event not in ("begin", "intent"))
    return begun, ended


def leftovers(home: Home) -> list[str]:
    """Temporary files that a run has left, by their names."""
    names = [path for path in home.files() if path.name.startswith(".") and not LOCKS.search(path.name)]
    kept = {".index.json"}
    return [os.path.relpath(path, home.root) for path in names if path.name not in kept]
