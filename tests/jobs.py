"""Parts for tests of backup jobs: job files on a test driver, and an rsync that reports a version."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from reclaim.backups.job import Job, declared
from reclaim.base.verdict import Judgement
from reclaim.engine.engine import Subject, judge
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes
from reclaim.jobs.calls import Call, Script
from reclaim.jobs.shell import Shell, Unreadable
from reclaim.jobs.steps import Copy, NotUnderstood, Step
from reclaim.jobs.tools import is_known, steps_of
from reclaim.jobs.values import State, Text
from tests.support import ROOT, disk_xml, domain_xml, executable, opened, requirement

IMAGE = "/srv/images/web.qcow2"
#: the version that the checks take rsync to be
MODERN = "3.4.1"
#: jobs as people write them; tests/unit/backups/test_job.py judges all of them
JOBS = ROOT / "tests/unit/backups/jobs"


@pytest.fixture(autouse=True)
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An rsync, first in PATH, that reports a modern version and does nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    return says_version(folder / "rsync", MODERN)


def says_version(program: Path, version: str) -> Path:
    return executable(program, f"#!/bin/sh\necho 'rsync  version {version}  protocol version 31'\n")


def hypervisor(folder: Path, *, running: bool = False) -> Hypervisor:
    return opened(folder, domain_xml(disk_xml(source=IMAGE), running=running))


def job(folder: Path, text: str, name: str, **notes: object) -> tuple[Hypervisor, Job]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    owner = hypervisor(folder)
    (one,) = declared(owner, [BackupNotes.model_validate({"job": path, **notes})])
    return owner, one


def judged(one: Job) -> Judgement:
    return judge(requirement("backup-job"), Subject(one.hypervisor, job=one))


def running(folder: Path, text: str) -> Job:
    (folder / "backup.sh").write_text(text)
    owner = hypervisor(folder, running=True)
    return declared(owner, [BackupNotes(job=folder / "backup.sh")])[0]


IMAGES = "/var/lib/libvirt/images"


VOLUME = (
    "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vgvm/mail'/>"
    "<target dev='vda' bus='virtio'/></disk>"
)


DOMAINS = (
    domain_xml(disk_xml(source=f"{IMAGES}/web.qcow2"), name="web"),
    domain_xml(
        disk_xml("vda", source="/srv/vm/shop.qcow2"), disk_xml("vdb", source="/srv/vm/shop-data.img"), name="shop"
    ),
    domain_xml(disk_xml(source=f"{IMAGES}/db.img"), name="db", running=False),
    domain_xml(VOLUME, name="mail", running=False),
)


def declared_job(folder: Path, name: str, snapshots: str = "-", text: str | None = None) -> Job:
    path = folder / "jobs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        shutil.copyfile(JOBS / name, path)
    else:
        path.write_text(text)
    notes = {"job": path} if snapshots == "-" else {"job": path, "snapshots": snapshots == "true"}
    (one,) = declared(opened(folder, *DOMAINS), [BackupNotes.model_validate(notes)])
    return one


# Without a hypervisor -------------------------------------------------------------------------


@dataclass(frozen=True)
class Scripts:
    """Files that a job starts or reads, by path."""

    texts: Mapping[str, str]

    def read(self, path: str, /) -> bytes:
        if path not in self.texts:
            raise Unreadable("no such file")
        return self.texts[path].encode()


def read_shell(text: str, files: Mapping[str, str] | None = None, folder: str = "/work") -> Script:
    """Read *text* as a shell script that starts in *folder*, on a machine that has *files*."""
    script = Script()
    state = State({"PWD": (folder,)})
    Shell(script, Scripts(files or {}), state=state, is_known=is_known).read(Text(text.encode()))
    return script


def calls_of(text: str) -> list[Call]:
    """Return the commands of a shell script, all of which are understood."""
    script = read_shell(text)
    assert script.unread == []
    return script.calls


def texts_of(text: str) -> list[list[str]]:
    """Return the words of each command of a shell script."""
    return [[word.text for word in call.words] for call in calls_of(text)]


def steps_in(text: str) -> list[Step]:
    """Return the steps of a shell script."""
    return steps_of(read_shell(text)).all


def copy_in(text: str) -> Copy:
    """Return the one copy that a shell script makes."""
    (copy,) = [step for step in steps_in(text) if isinstance(step, Copy)]
    return copy


def unread_in(text: str) -> str:
    """Return the parts of a shell script that were not understood, in one text."""
    return "; ".join(step.text for step in steps_in(text) if isinstance(step, NotUnderstood))
