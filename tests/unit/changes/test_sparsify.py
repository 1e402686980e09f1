"""trim-backlog of a guest that is off, with guestfs-tools as they answer. tests/guest has the real ones."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.verdict import Verdict
from reclaim.changes import preconditions
from reclaim.changes.sparsify import Sparsify
from reclaim.engine import journal
from reclaim.space import virt_df
from tests.support import (
    Inside,
    disk_xml,
    domain_xml,
    engine,
    executable,
    hypervisor_of,
    inhabited,
    opened,
    requirement,
    subject,
    verdict_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from reclaim.base.verdict import Result
    from reclaim.handles.guest import Guest
    from tests.support import InhabitedGuest

MIB = 1024**2
pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="no qemu-img (Debian and Ubuntu: qemu-utils)")

#: what virt-df and virt-filesystems 1.48 say of an image: 1 GiB, a root of 900 MiB
DF = "VirtualMachine,Filesystem,1K-blocks,Used,Available,Use%\nroot.qcow2,/dev/sda1,921600,20480,901120,2.2\n"
FILESYSTEMS = "Name,Type,VFS,Label,Size,Parent\n/dev/sda1,filesystem,{},,943718400,\n"
#: what the real one does to blocks
TRIM = "qemu-io -d unmap -f qcow2 -c 'discard 100M 400M' {} >/dev/null"


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of guestfs-tools in front of the PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    _tool(folder, "virt-df", f"cat <<'X'\n{DF}X")
    _tool(folder, "virt-filesystems", f"cat <<'X'\n{FILESYSTEMS.format('ext4')}X")
    _tool(folder, "virt-sparsify", TRIM.format('"$5"'))
    return folder


def _tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    executable(path, f'#!/bin/sh\necho "{name} $*" >>{folder}/ran\n{script}\n')


def _ran(folder: Path) -> list[str]:
    return [line.split()[0] for line in (folder / "ran").read_text().splitlines()]


def _guest(folder: Path, held: int = 300, **more: Any) -> InhabitedGuest:
    image = folder / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    if held:
        write = ["-c", f"write -P 5 100M {held}M"]
        subprocess.run(["qemu-io", "-f", "qcow2", *write, str(image)], check=True, stdout=subprocess.DEVNULL)
    xml = disk_xml(source=str(image), driver="discard='unmap'")
    return inhabited(folder, Inside(), xml, running=False, **more)


def _run(guest: Guest, folder: Path, **options: Any) -> Result:
    return engine(guest.hypervisor, folder, **options).run(requirement("trim-backlog"), subject(guest, "vda"))


@pytest.mark.slow
def test_a_backlog_is_seen_and_trimmed_from_outside(tmp_path: Path, tools: Path) -> None:
    guest = _guest(tmp_path)
    planned = _run(guest, tmp_path, mode="plan")
    assert planned.verdict is Verdict.NONCOMPLIANT
    assert planned.changes[0].diff.startswith(f"virt-sparsify --in-place --format qcow2 {tmp_path}/disk.qcow2: ")
    assert "virt-sparsify" not in _ran(tools)
    result = _run(guest, tmp_path)
    assert result.verdict is Verdict.FIXED, result.reason
    assert "300.0 MiB came back of 156.3 MiB to 280.3 MiB that were expected" in result.reason
    again = _run(guest, tmp_path)
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    assert _ran(tools).count("virt-sparsify") == 1


@pytest.mark.slow
def test_what_is_no_filesystem_is_not_promised(tmp_path: Path, tools: Path) -> None:
    _tool(tools, "virt-df", f"cat <<'X'\n{DF.replace('921600', '614400')}X")
    result = _run(_guest(tmp_path), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert "between 0 B and 280." in result.reason


@pytest.mark.slow
def test_subvolumes_are_one_filesystem(tmp_path: Path, tools: Path) -> None:
    lines = "".join(
        f"root.qcow2,btrfsvol:/dev/sda1/{name},921600,20480,901120,2.2\n" for name in ("@", "@home", "@var")
    )
    _tool(tools, "virt-df", f"cat <<'X'\nhead\n{lines}X")
    assert "use 20.0 MiB" in _run(_guest(tmp_path), tmp_path, mode="audit").reason


@pytest.mark.slow
def test_an_image_is_looked_into_once_until_it_changes(tmp_path: Path, tools: Path) -> None:
    guest = _guest(tmp_path)
    for _ in range(2):
        assert verdict_of(guest, "trim-backlog", "vda") is Verdict.NONCOMPLIANT
    assert _ran(tools) == ["virt-df"]


def test_an_image_with_little_in_it_is_not_looked_into(tmp_path: Path, tools: Path) -> None:
    result = _run(_guest(tmp_path, 40), tmp_path)
    assert result.verdict is Verdict.COMPLIANT
    assert not (tools / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "verdict", "words"),
    [
        pytest.param("exit 1", Verdict.ERROR, "virt-df: status 1", id="fails"),
        pytest.param("echo 'libguestfs: error: no kvm' >&2; exit 1", Verdict.ERROR, "error: no kvm", id="says-why"),
        pytest.param("echo head; echo gibberish", Verdict.ERROR, "cannot be parsed", id="gibberish"),
        pytest.param("echo head; echo a,b,-1,2,3,4", Verdict.ERROR, "cannot be parsed", id="negative"),
        pytest.param("echo head", Verdict.NOT_ASSESSABLE, "finds no filesystem", id="nothing-in-it"),
    ],
)
def test_a_look_that_failed_is_no_finding(tmp_path: Path, tools: Path, said: str, verdict: Verdict, words: str) -> None:
    _tool(tools, "virt-df", said)
    result = _run(_guest(tmp_path), tmp_path)
    assert (result.verdict, result.changes) == (verdict, [])
    assert words in result.reason


@pytest.mark.slow
@pytest.mark.parametrize("signature", ["swsuspend", "ntfs", "BitLocker"])
def test_a_system_that_may_sleep_on_its_disk_is_left(tmp_path: Path, tools: Path, signature: str) -> None:
    _tool(tools, "virt-filesystems", f"cat <<'X'\n{FILESYSTEMS.format(signature)}X")
    result = _run(_guest(tmp_path), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"/dev/sda1 is {signature}" in result.reason.partition("not fixed")[2]
    assert "virt-sparsify" not in _ran(tools)


@pytest.mark.slow
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("/dev/md127,filesystem,ext4,,943718400,", id="filesystem"),
        pytest.param("/dev/vg/root,filesystem,ext4,,943718400,\n/dev/md127,pv,,,943718400,", id="volumes"),
    ],
)
def test_a_part_of_an_array_is_not_trimmed_alone(tmp_path: Path, tools: Path, rows: str) -> None:
    """Its superblock would be written: at the next boot the other disk would be thrown out as the older one."""
    pvs = 'case "$*" in *--pvs*) cat ;; *) grep -v ,pv, ;; esac'
    _tool(tools, "virt-filesystems", f"{pvs} <<'X'\nName,Type,VFS,Label,Size,Parent\n{rows}\nX")
    result = _run(_guest(tmp_path), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "/dev/md127 is an md array" in result.reason.partition("not fixed")[2]
    assert "virt-sparsify" not in _ran(tools)


@pytest.mark.slow
@pytest.mark.parametrize("said", ["exit 1", "true", "echo something"])
def test_a_system_of_which_that_cannot_be_told_is_left(tmp_path: Path, tools: Path, said: str) -> None:
    _tool(tools, "virt-filesystems", said)
    result = _run(_guest(tmp_path), tmp_path)
    assert "not fixed" in result.reason
    assert "virt-sparsify" not in _ran(tools)


@pytest.mark.slow
def test_a_trim_that_failed_is_told(tmp_path: Path, tools: Path) -> None:
    _tool(tools, "virt-sparsify", "echo 'virt-sparsify: error: libguestfs error: lock' >&2; exit 1")
    result = _run(_guest(tmp_path), tmp_path)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert [change.applied for change in result.changes] == [False]
    assert "virt-sparsify: virt-sparsify: error: libguestfs error: lock (0 B came back)" in result.reason


@pytest.mark.slow
def test_without_the_tools_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virt_df, "is_installed", lambda _hypervisor: False)
    result = _run(_guest(tmp_path), tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NOT_ASSESSABLE, [])
    assert "with guestfs-tools installed" in result.reason


@pytest.mark.slow
def test_an_image_with_snapshots_is_not_looked_into(tmp_path: Path, tools: Path) -> None:
    guest = _guest(tmp_path)
    subprocess.run(["qemu-img", "snapshot", "-c", "one", str(tmp_path / "disk.qcow2")], check=True)
    assert _run(guest, tmp_path).verdict is Verdict.NOT_ASSESSABLE
    assert not (tools / "ran").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("tools")
def test_an_image_on_which_another_guest_stands_is_left(tmp_path: Path) -> None:
    guest = _guest(tmp_path)
    overlay = tmp_path / "overlay.qcow2"
    base = str(tmp_path / "disk.qcow2")
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", str(overlay)], check=True)
    guest.hypervisor.connection.defineXML(domain_xml(disk_xml(source=str(overlay)), name="other"))
    found = opened(tmp_path, domain_xml(disk_xml(source=str(overlay)), name="other")).guests[0]
    hypervisor_of(guest).guests.append(found)
    result = _run(guest, tmp_path)
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "withheld: the guest other uses" in result.reason


def test_states_that_forbid_it(tmp_path: Path) -> None:
    change = Sparsify("one", "/images/vda.qcow2", "qcow2")
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    assert "it runs" in str(preconditions.why_not_applied(guest, change))
    guest.domain.managedSave(0)
    guest.forget()
    assert "managed-save" in str(preconditions.why_not_applied(guest, change))
    guest.domain.managedSaveRemove(0)
    guest.domain.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>", 0)
    assert "the snapshot before may depend on its image" in str(preconditions.why_not_applied(guest, change))


def test_the_change_comes_back_from_the_journal(tmp_path: Path) -> None:
    change = Sparsify("one", "/images/vda.qcow2", "qcow2", "3.0 GiB")
    book = journal.Journal(tmp_path / "journal.jsonl", "test:///x", "fix")
    book.done(book.intend("one", "uuid", "trim-backlog", change), {})
    assert journal.read(tmp_path / "journal.jsonl").entries[0].change == change


@pytest.mark.slow
def test_a_guest_that_is_off_does_not_wait_for_its_inside(tmp_path: Path, tools: Path) -> None:
    """disc-max of a guest that is off is not assessable: no reason to leave what is done from outside."""
    guest = _guest(tmp_path)
    assert verdict_of(guest, "disc-max") is Verdict.NOT_ASSESSABLE
    assert _run(guest, tmp_path).verdict is Verdict.FIXED
    assert _ran(tools)
