"""initramfs-driver: the check and the fixer as a pair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reclaim.change import FileChange
from reclaim.verdict import Verdict
from tests.support import MODULES, Inside, engine, inhabited, requirement, subject, verdict_of

if TYPE_CHECKING:
    from pathlib import Path

PATH = "/etc/initramfs-tools/modules"
REBUILD = "update-initramfs -u -k all"
FULL = "".join(f"initramfs {module}\n" for module in MODULES)
ALL = "virtio_pci\nvirtio_scsi\nsd_mod\n"


def _rebuild(inside: Inside) -> int:
    """As update-initramfs does: what is listed is in every initramfs."""
    listed = "".join(f"initramfs {line}\n" for line in inside.files[PATH].splitlines() if line in MODULES)
    releases = [line for line in inside.kernels.splitlines() if line.startswith("kernel ")]
    inside.kernels = "".join(f"{line}\n{listed}" for line in releases)
    return 0


@pytest.mark.parametrize(
    "kernels",
    [
        pytest.param("kernel 6.1\n", id="none"),
        pytest.param("kernel 6.1\nno-initramfs\n", id="no-initramfs"),
        pytest.param("kernel 6.1\ninitramfs virtio_scsi\ninitramfs virtio_pci\n", id="no-sd_mod"),
        pytest.param("kernel 6.1\nbuiltin sd_mod\nbuiltin virtio_pci\n", id="no-virtio_scsi"),
        pytest.param(f"kernel 6.1\n{FULL}kernel 5.10\ninitramfs sd_mod\n", id="an-older-kernel"),
    ],
)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(None, ALL, id="no-file"),
        pytest.param("", ALL, id="empty"),
        pytest.param("# list\nsd_mod\n", "# list\nsd_mod\nvirtio_pci\nvirtio_scsi\n", id="one-listed"),
        pytest.param("# virtio_scsi", f"# virtio_scsi\n{ALL}", id="comment-without-newline"),
        pytest.param(ALL, ALL, id="listed-but-not-rebuilt"),
    ],
)
def test_the_modules_are_listed_and_every_initramfs_is_rebuilt(
    tmp_path: Path, kernels: str, before: str | None, after: str
) -> None:
    inside = Inside(kernels=kernels, commands={REBUILD: _rebuild})
    if before is not None:
        inside.files[PATH] = before
    others = {path: text for path, text in inside.files.items() if path != PATH}
    guest = inhabited(tmp_path, inside)
    assert verdict_of(guest, "initramfs-driver") is Verdict.NONCOMPLIANT
    assert requirement("initramfs-driver").fixer(guest) == [FileChange("one", PATH, before, after, then=REBUILD)]
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.files == {**others, PATH: after}
    again = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


def test_the_finding_names_kernel_and_modules(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(kernels=f"kernel 6.1\n{FULL}kernel 5.10\ninitramfs virtio_scsi\n"))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("initramfs-driver"), subject(guest))
    assert result.reason == "5.10 has no virtio_pci, sd_mod"


@pytest.mark.parametrize("before", [None, "loop\n"], ids=["no-file", "a-file"])
def test_a_failed_rebuild_leaves_the_list_as_it_was(tmp_path: Path, before: str | None) -> None:
    inside = Inside(kernels="kernel 6.1\n", commands={REBUILD: lambda _: 1})
    if before is not None:
        inside.files[PATH] = before
    files = dict(inside.files)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert f"not mended: one: {REBUILD} ended with status 1" in result.reason
    assert [change.applied for change in result.changes] == [False]
    assert inside.files == files


def test_without_initramfs_tools_it_is_withheld(tmp_path: Path) -> None:
    inside = Inside(kernels="kernel 6.1\n", tools=("systemctl",))
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("initramfs-driver"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "initramfs-tools is not installed" in result.reason


@pytest.mark.parametrize(
    ("kernels", "os", "verdict"),
    [
        pytest.param(f"kernel 6.1\n{FULL}", "ID=debian\n", Verdict.COMPLIANT, id="in-the-initramfs"),
        pytest.param(
            "kernel 6.1\n" + FULL.replace("initramfs", "builtin"), "ID=ubuntu\n", Verdict.COMPLIANT, id="built-in"
        ),
        pytest.param(
            "kernel 6.1\nbuiltin sd_mod\nbuiltin virtio_pci\ninitramfs virtio_scsi\n",
            "ID=mint\nID_LIKE='ubuntu debian'\n",
            Verdict.COMPLIANT,
            id="some-of-each",
        ),
        pytest.param("", "ID=debian\n", Verdict.NOT_ASSESSABLE, id="no-kernel"),
        pytest.param(
            "kernel 6.1\nunreadable lsinitramfs failed\n", "ID=debian\n", Verdict.NOT_ASSESSABLE, id="unreadable"
        ),
        pytest.param("kernel 6.1\n", "ID=fedora\n", Verdict.NOT_ASSESSABLE, id="another-distribution"),
        pytest.param("what is this\n", "ID=debian\n", Verdict.ERROR, id="gibberish"),
    ],
)
def test_verdicts_that_start_no_fixer(tmp_path: Path, kernels: str, os: str, verdict: Verdict) -> None:
    assert verdict_of(inhabited(tmp_path, Inside(kernels=kernels, os=os)), "initramfs-driver") is verdict
