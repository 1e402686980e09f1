"""The filesystems in the image of a guest that is off, with a virt-df of our own; tests/guest has the real one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import testinfra
from testinfra.backend.base import CommandResult

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.handles.guest import Disk
from reclaim.inside.disk_layout import Area
from reclaim.space import virt_df
from tests.images import qcow2_header
from tests.support import Inside, disk_xml, executable, inhabited, without_guestfs

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1024**2
HEAD = "VirtualMachine,Filesystem,1K-blocks,Used,Available,Use%"
ROOT = "a.img,/dev/sda1,40960,1024,39936,2.5"


class World:
    """An image of 64 MiB, of which the host holds `held`, and guestfs-tools that answer with a script of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tools = folder, folder / "bin"
        self.tools.mkdir()
        self.image = folder / "a.img"
        self.tool("virt-sparsify", "")
        self.says(HEAD, ROOT)

    def tool(self, name: str, script: str) -> None:
        path = self.tools / name
        executable(path, f'#!/bin/sh\necho "$*" >>{self.tools}/asked-{name}\n{script}\n')

    def says(self, *lines: str) -> None:
        self.tool("virt-df", "cat <<'X'\n" + "".join(f"{line}\n" for line in lines) + "X")

    @property
    def asked(self) -> list[str]:
        path = self.tools / "asked-virt-df"
        return path.read_text().splitlines() if path.exists() else []

    def disk(self, kind: str = "raw", head: bytes = b"", **more: Any) -> Disk:
        self.hold(2 * MIB, head)
        device = disk_xml(source=str(self.image)).replace("type='qcow2'", f"type='{kind}'")
        return Disk(inhabited(self.folder, Inside(), device, running=False, **more), "vda")

    def hold(self, count: int, head: bytes = b"") -> None:
        with self.image.open("wb") as stream:
            stream.write(head)
            stream.truncate(64 * MIB)
            os.posix_fallocate(stream.fileno(), 0, count)

    @property
    def held(self) -> int:
        return self.image.stat().st_blocks * 512


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setenv("PATH", str(made.tools), prepend=os.pathsep)
    return made


def test_the_filesystems_of_an_image_and_everything_else(world: World) -> None:
    world.says(HEAD, ROOT, '"a,b.img",/dev/vg/srv,10240,512,9728,5')
    held, areas, based = virt_df.areas(world.disk(), 0)
    assert (held, based) == (world.held, False)
    assert areas == [
        Area("filesystem", "/dev/sda1", 40 * MIB, None, MIB, trims=True),
        Area("filesystem", "/dev/vg/srv", 10 * MIB, None, MIB // 2, trims=True),
        Area("unknown", "everything else", 14 * MIB, None),
    ]
    assert world.asked == [f"--csv --format=raw -a {world.image}"]


def test_filesystems_that_claim_more_than_the_disk_leave_nothing_else(world: World) -> None:
    world.says(HEAD, ROOT.replace("40960", "999999999999"))
    assert virt_df.areas(world.disk(), 0)[1][-1].size == 0


def test_subvolumes_of_one_btrfs_count_once_and_another_counts_too(world: World) -> None:
    rows = [f"a,btrfsvol:/dev/sda{disk}/{name},{size},1024,1,2" for disk, name, size in
            ((1, "@", 2048), (1, "@home", 2048), (2, "@", 4096))]  # fmt: skip
    world.says(HEAD, *rows, "a,/dev/sda3,2048,1024,1,2")
    areas = virt_df.areas(world.disk(), 0)[1]
    assert [(area.what, area.size) for area in areas[:-1]] == [
        ("btrfsvol:/dev/sda1/@", 2 * MIB),
        ("btrfsvol:/dev/sda2/@", 4 * MIB),
        ("/dev/sda3", 2 * MIB),
    ]


@pytest.mark.parametrize("backing", [True, False])
def test_a_qcow2_is_as_long_as_its_disk_and_may_be_an_overlay(world: World, *, backing: bool) -> None:
    fields = {"backing_at": 104, "backing_size": 4} if backing else {}
    head = qcow2_header(virtual=128 * MIB, **fields) + b"base"
    _, areas, based = virt_df.areas(world.disk("qcow2", head), 0)
    assert based is backing
    assert areas[-1].size == (128 - 40) * MIB
    assert world.asked[0].startswith("--csv --format=qcow2 ")


@pytest.mark.parametrize(
    "fields", [{"crypt": 2}, {"snapshots": 1, "snapshots_at": 262_144}, {"incompatible": 4}], ids=str
)
def test_an_image_that_is_not_plain_is_not_looked_into(world: World, fields: dict[str, int]) -> None:
    disk = world.disk("qcow2", qcow2_header(**fields))
    with pytest.raises(NotAssessable, match="encrypted, has snapshots or lies in two files"):
        virt_df.areas(disk, 0)
    assert world.asked == []


@pytest.mark.parametrize("kind", ["vmdk", "qed"])
def test_another_format_is_not_looked_into(world: World, kind: str) -> None:
    with pytest.raises(NotAssessable, match="virt-sparsify"):
        virt_df.areas(world.disk(kind), 0)
    assert world.asked == []


def test_another_system_is_not_looked_into(world: World) -> None:
    metadata = (
        "<libosinfo:libosinfo xmlns:libosinfo='http://libosinfo.org/xmlns/libvirt/domain/1.0'>"
        "<libosinfo:os id='http://microsoft.com/win/10'/></libosinfo:libosinfo>"
    )
    with pytest.raises(NotAssessable, match="Windows"):
        virt_df.areas(world.disk(metadata=metadata), 0)
    assert world.asked == []


@pytest.mark.parametrize("missing", ["virt-df", "virt-sparsify"])
def test_both_tools_are_needed_and_asked_for_once(world: World, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setenv("PATH", f"{world.tools}{os.pathsep}{without_guestfs(world.folder)}")
    (world.tools / missing).unlink()
    disk = world.disk()
    with pytest.raises(NotAssessable, match="guestfs-tools"):
        virt_df.areas(disk, 0)
    world.tool(missing, "")
    assert not virt_df.is_installed(disk.guest.hypervisor)
    assert virt_df.is_installed(world.disk().guest.hypervisor)


def test_an_image_that_holds_little_is_not_looked_into(world: World) -> None:
    disk = world.disk()
    assert virt_df.areas(disk, world.held) == (world.held, [], False)
    assert world.asked == []
    assert len(virt_df.areas(disk, world.held - 1)[1]) == 2


def test_an_image_is_looked_into_again_once_the_host_holds_another_count(world: World) -> None:
    disk = world.disk()
    said: list[str] = []
    disk.guest.hypervisor.progress = said.append
    for _ in range(2):
        virt_df.areas(disk, 0)
    assert len(world.asked) == 1
    assert said == [f"one: looking into {world.image}"]
    world.hold(4 * MIB)
    assert virt_df.areas(disk, 0)[0] == world.held
    assert len(world.asked) == 2


def test_an_image_without_filesystems_is_no_answer(world: World) -> None:
    world.says(HEAD)
    with pytest.raises(NotAssessable, match="no filesystem"):
        virt_df.areas(world.disk(), 0)


@pytest.mark.parametrize(
    "row",
    ["gibberish", "a,b,1,2,3", "a,b,1,2,3,4,5", "a,b,-1,2,3,4", "a,b,1,x,3,4", f"a,b,{'9' * 16},2,3,4", "a,b,1,²,3,4"],
)
def test_a_row_of_another_shape_is_no_answer(world: World, row: str) -> None:
    world.says(HEAD, ROOT, row)
    with pytest.raises(ProbeError, match=f"{world.image}: virt-df: its output cannot be parsed"):
        virt_df.areas(world.disk(), 0)


def test_a_virt_df_that_fails_is_told_in_its_own_words(world: World) -> None:
    world.tool("virt-df", "echo 'libguestfs: error: no kvm' >&2; exit 1")
    disk = world.disk()
    for _ in range(2):  # and is asked again
        with pytest.raises(ProbeError, match=f"{world.image}: virt-df: libguestfs: error: no kvm"):
            virt_df.areas(disk, 0)
    assert len(world.asked) == 2


@pytest.mark.parametrize(("given", "backend"), [(None, "direct"), ("libvirt", "libvirt")])
def test_libguestfs_uses_qemu_itself_unless_the_user_set_it(
    world: World, monkeypatch: pytest.MonkeyPatch, given: str | None, backend: str
) -> None:
    monkeypatch.delenv("LIBGUESTFS_BACKEND", raising=False)
    if given:
        monkeypatch.setenv("LIBGUESTFS_BACKEND", given)
    hypervisor = world.disk().guest.hypervisor
    world.tool("show", 'cat; echo "$LC_ALL $LIBGUESTFS_BACKEND $1"')
    result = virt_df.run(hypervisor, 5, "show %s", "a b")
    assert (result.rc, result.stdout) == (0, f"C {backend} a b\n")


def _ended(status: int, stderr: str = "") -> CommandResult:
    return CommandResult(testinfra.get_host("local://").backend, status, b"virt-df", b"", stderr.encode())


@pytest.mark.parametrize(
    ("status", "stderr", "words"),
    [
        pytest.param(124, "error: x", "no answer within 7 s", id="time"),
        pytest.param(137, "", "no answer within 7 s", id="killed"),
        pytest.param(7, "", "status 7", id="silent"),
        pytest.param(1, "one\na: error: why\nuse -v for more\n", "a: error: why", id="the-first-error"),
    ],
)
def test_the_reason_of_a_tool_that_failed(status: int, stderr: str, words: str) -> None:
    assert virt_df.why_failed(_ended(status, stderr), 7) == words
