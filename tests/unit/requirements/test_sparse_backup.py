"""sparse-backup: the check and the fixer as a pair, on real filesystems, for each way a copy can be too large."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import testinfra

from reclaim.backups import backup
from reclaim.backups.backup import Backup
from reclaim.base.errors import ChangeFailed, ProbeError
from reclaim.base.verdict import Result, Verdict
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.engine import undo
from reclaim.engine.engine import Subject, judge
from reclaim.engine.journal import read
from reclaim.files import holes
from reclaim.handles.hypervisor import Hypervisor
from reclaim.storage import local_image
from reclaim.storage.btrfs import mount_of
from tests.copies import DATA, SIZE, dense, noise, write
from tests.filesystems import MAKE, MIB, allocated, mounted, require, run
from tests.support import disk_xml, domain_xml, engine, executable, opened, requirement


@pytest.fixture(params=MAKE)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder on a filesystem of its own, one of each kind."""
    require(request.param)
    with mounted(request.param, tmp_path) as folder:
        yield folder


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["place"])


# Copies in every shape ------------------------------------------------------------------------


def fallocated(path: Path) -> Path:
    """As fallocate leaves it: to SEEK_HOLE it is a hole."""
    write(path, (0, noise(DATA * MIB)))
    run("fallocate", "--length", f"{SIZE}M", str(path))
    return path


def behind_the_end(path: Path) -> Path:
    """Allocated where nobody looks: behind the end."""
    write(path, (0, noise(DATA * MIB)), size=DATA * MIB)
    run("fallocate", "--keep-size", "--offset", f"{DATA}M", "--length", "32M", str(path))
    return path


def scattered(path: Path) -> Path:
    """Every other block is zeros, and the last one, which is no whole block, too."""
    pair = noise(4096) + bytes(4096)
    return write(path, (0, pair * (16 * MIB // 8192)), (16 * MIB, bytes(1000)), size=16 * MIB + 1000)


def qcow2(path: Path, *commands: str, options: str = "") -> Path:
    run("qemu-img", "create", "-q", "-f", "qcow2", *options.split(), str(path), f"{SIZE}M")
    if commands:
        run("qemu-io", "-f", "qcow2", *(word for command in commands for word in ("-c", command)), str(path))
    return path


def sparse(path: Path) -> Path:
    return write(path, (0, noise(DATA * MIB)))


def thin(path: Path) -> Path:
    return qcow2(path, "write 0 8M")


def qcow2_zeroed(path: Path) -> Path:
    """The guest overwrote what it freed with zeros; the clusters stay."""
    return qcow2(path, "write -P 7 0 8M", "write -P 0 8M 40M")


def qcow2_falloc(path: Path) -> Path:
    return qcow2(path, "write -P 7 0 8M", options="-o preallocation=falloc")


def qcow2_full(path: Path) -> Path:
    return qcow2(path, "write -P 7 0 8M", options="-o preallocation=full")


def qcow2_inflated(path: Path) -> Path:
    """The image gave 32 MiB back; the copy has zeros there."""
    thin = qcow2(path.with_suffix(".thin"), "write -P 7 0 40M")
    run("qemu-io", "-f", "qcow2", "--discard=unmap", "-c", "discard 8M 32M", str(thin))
    run("cp", "--sparse=never", "--reflink=never", str(thin), str(path))
    thin.unlink()
    return path


def qcow2_compressed(path: Path) -> Path:
    """Compressed clusters, with zeros behind them that a copy without holes has."""
    plain = write(path.with_suffix(".raw"), (0, noise(DATA * MIB)))
    run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", str(plain), str(path))
    plain.unlink()
    with path.open("ab") as stream:
        stream.write(bytes(16 * MIB))
    return path


def qcow2_overlay(path: Path) -> Path:
    """A copy with a backing file that lies nowhere."""
    base = qcow2(path.with_suffix(".base"), "write -P 1 0 4M")
    qcow2(path, "write -P 7 0 8M", "write -P 0 8M 24M", options=f"-b {base} -F qcow2")
    base.unlink()
    return path


WRONG: list[Callable[[Path], Path]] = [
    dense,
    fallocated,
    behind_the_end,
    scattered,
    qcow2_zeroed,
    qcow2_falloc,
    qcow2_full,
    qcow2_inflated,
    qcow2_compressed,
    qcow2_overlay,
]
#: btrfs stores these zeros compressed, next to nothing; fallocated extents it stores as they are
THIN_WHERE_COMPRESSED = (dense, scattered, qcow2_zeroed, qcow2_full, qcow2_inflated, qcow2_compressed, qcow2_overlay)


def checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if sys.version_info >= (3, 11) else _old(path)


def _old(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# The pair -------------------------------------------------------------------------------------


def hypervisor(folder: Path, *disks: str) -> Hypervisor:
    devices = [disk_xml(f"vd{letter}", source=path) for letter, path in zip("abc", disks, strict=False)]
    return opened(folder, domain_xml(*(devices or [disk_xml()])))


def subject(owner: Hypervisor, path: Path) -> Subject:
    return Subject(owner, backup=Backup(owner, str(path)))


def mend(folder: Path, path: Path) -> Result:
    """Refused → fixed → accepted → a second run proposes nothing."""
    owner = hypervisor(folder)
    assert judge(requirement("sparse-backup"), subject(owner, path)).verdict is Verdict.NONCOMPLIANT
    result = engine(owner, folder).run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.FIXED, result.reason
    again = engine(owner, folder).run(requirement("sparse-backup"), subject(owner, path))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    return result


def free_bytes(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        return holes.free_bytes(descriptor)
    finally:
        os.close(descriptor)


def verdict(folder: Path, path: Path) -> tuple[Verdict, str]:
    found = judge(requirement("sparse-backup"), subject(hypervisor(folder), path))
    return found.verdict, found.reason or found.evidence


@pytest.mark.slow
@pytest.mark.parametrize("make", WRONG)
def test_what_is_not_needed_comes_back(place: Path, tmp_path: Path, kind: str, make: Callable[[Path], Path]) -> None:
    path, bystander = make(place / "web.img"), dense(place / "other.img")
    path.chmod(0o640)
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    if kind == "btrfs-compressed" and make in THIN_WHERE_COMPRESSED:
        found, words = verdict(tmp_path, path)
        assert found is Verdict.COMPLIANT
        assert "are zeros that the filesystem has compressed" in words
        return
    before, content, held, other = path.stat(), checksum(path), allocated(path), allocated(bystander)
    free = free_bytes(place)
    result = mend(tmp_path, path)
    after = path.stat()
    assert checksum(path) == content
    for kept in ("st_size", "st_mtime_ns", "st_mode", "st_uid", "st_gid", "st_nlink"):
        assert getattr(after, kept) == getattr(before, kept), kept
    came = held - allocated(path)
    assert came >= 7 * MIB
    assert f"({came} bytes) came back" in result.reason
    assert allocated(bystander) == other
    # a hole within an extent of btrfs frees nothing
    assert [change.kind for change in result.changes] == ["sparse-rewrite" if "btrfs" in kind else "hole-punch"]
    assert (after.st_ino == before.st_ino) == ("btrfs" not in kind)
    assert free_bytes(place) - free >= came - MIB
    assert sorted(one.name for one in place.iterdir() if one.name != "lost+found") == ["other.img", "web.img"]


@pytest.mark.slow
def test_the_reason_tells_what_and_why(tmp_path: Path) -> None:
    found, words = verdict(tmp_path, dense(tmp_path / "web.img"))
    assert found is Verdict.NONCOMPLIANT
    assert words.endswith("56.0 MiB can come back: 56.0 MiB are zeros that were written")
    found, words = verdict(tmp_path, fallocated(tmp_path / "other.img"))
    assert "56.0 MiB are extents never written" in words


@pytest.mark.parametrize("make", [sparse, thin, write])
def test_a_sparse_copy_is_accepted(place: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(place / "web.img")
    before = path.stat()
    assert verdict(tmp_path, path)[0] is Verdict.COMPLIANT
    after = path.stat()
    assert (after.st_blocks, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_blocks,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


# Shared extents -------------------------------------------------------------------------------


def snapshot(btrfs: Path, *names: str) -> None:
    for name in names:
        run("btrfs", "subvolume", "snapshot", "-r", str(btrfs / "current"), str(btrfs / name))


def data_used(folder: Path) -> int:
    """Bytes that the btrfs holds for data, once its deleted subvolumes are cleaned up."""
    run("btrfs", "filesystem", "sync", str(folder))
    run("btrfs", "subvolume", "sync", str(folder))
    run("btrfs", "filesystem", "sync", str(folder))
    found = re.search(r"^Data,.*used=(\d+)", run("btrfs", "filesystem", "df", "--raw", str(folder)), re.MULTILINE)
    assert found
    return int(found[1])


@pytest.mark.slow
def test_zeros_that_snapshots_share_go_with_the_snapshots(btrfs: Path, tmp_path: Path) -> None:
    """The copy is written anew at once; else it would hold its zeros when every snapshot is gone."""
    path = dense(btrfs / "current/web.img")
    snapshot(btrfs, "hourly-1", "hourly-2")
    content, held = checksum(path), allocated(path)
    owner = hypervisor(tmp_path)
    refused, words = verdict(tmp_path, path)
    assert refused is Verdict.NONCOMPLIANT
    assert "pinned by" in words
    fixing = engine(owner, tmp_path)
    result = fixing.run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.FIXED, result.reason
    assert "hourly-1" in result.reason
    assert "hourly-2" in result.reason
    assert "come back when the snapshots that share them are gone" in result.reason
    assert fixing.freed == 0
    assert allocated(path) <= (DATA + 1) * MIB < held
    assert checksum(path) == content == checksum(btrfs / "hourly-1/web.img")
    before = path.stat()
    again = engine(owner, tmp_path).run(requirement("sparse-backup"), subject(owner, path))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    assert path.stat().st_ctime_ns == before.st_ctime_ns
    assert data_used(btrfs) >= SIZE * MIB
    run("btrfs", "subvolume", "delete", str(btrfs / "hourly-1"), str(btrfs / "hourly-2"))
    assert data_used(btrfs) <= (DATA + 4) * MIB


@pytest.mark.slow
def test_a_copy_in_the_top_level_subvolume_does_not_pin_itself(btrfs: Path, tmp_path: Path) -> None:
    """btrfs-progs names the copy itself there by the path that it was asked with."""
    (btrfs / "copies").mkdir()
    path = dense(btrfs / "copies/web.img")
    run("btrfs", "subvolume", "snapshot", "-r", str(btrfs), str(btrfs / "hourly-1"))
    content = checksum(path)
    result = mend(tmp_path, path)
    assert result.verdict is Verdict.FIXED, result.reason
    assert "/proc/" not in result.reason
    assert checksum(path) == content == checksum(btrfs / "hourly-1/copies/web.img")
    assert allocated(path) <= (DATA + 1) * MIB


@pytest.mark.slow
def test_zeros_that_are_compressed_count_as_pinned_by_nothing(tmp_path: Path) -> None:
    require("btrfs-compressed")
    with mounted("btrfs-compressed", tmp_path) as folder:
        path = dense(folder / "web.img")
        run("fallocate", "--keep-size", "--offset", f"{SIZE}M", "--length", "16M", str(path))
        run("btrfs", "subvolume", "snapshot", "-r", str(folder), str(folder / "hourly-1"))
        found, words = verdict(tmp_path, path)
        assert found is Verdict.NONCOMPLIANT
        assert "0 B can come back: 16.0 MiB are extents never written, 16.0 MiB of that are pinned" in words


def test_a_reflink_in_the_top_level_subvolume_is_named_by_its_path(btrfs: Path, tmp_path: Path) -> None:
    path = dense(btrfs / "web.img")
    run("cp", "--reflink=always", str(path), str(btrfs / "clone"))
    run("btrfs", "filesystem", "sync", str(btrfs))
    found, words = verdict(tmp_path, path)
    assert found is Verdict.NONCOMPLIANT
    assert words.endswith(f"pinned by {btrfs}/clone"), words


def test_without_room_for_a_rewrite_zeros_that_snapshots_share_are_left(
    btrfs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = dense(btrfs / "current/web.img")
    snapshot(btrfs, "hourly")
    monkeypatch.setattr(
        "reclaim.backups.backup.why_not_rewritten", lambda _: "a rewrite needs 4 MiB where 1 MiB are free"
    )
    held = allocated(path)
    owner = hypervisor(tmp_path)
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "share them: only a rewrite separates these, and a rewrite needs" in result.reason
    assert result.changes == []
    assert allocated(path) == held


@pytest.mark.slow
def test_a_reflink_beside_the_snapshots_keeps_the_copy_as_it_is(btrfs: Path, tmp_path: Path) -> None:
    """Generations that are reflinks of each other would each take their own data."""
    path = dense(btrfs / "current/web.img")
    run("cp", "--reflink=always", str(path), str(btrfs / "current/web.img.1"))
    snapshot(btrfs, "hourly")
    owner = hypervisor(tmp_path)
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: only the end of" in result.reason
    assert result.changes == []


@pytest.mark.slow
def test_a_reflink_of_a_part_keeps_the_copy_as_it_is_too(btrfs: Path, tmp_path: Path) -> None:
    """A snapshot shares the first extent alone, a reflink the last one as well."""
    path, kept = btrfs / "current/web.img", btrfs / "current/kept.img"
    with path.open("wb") as stream:
        for _ in range(2):
            stream.write(bytes(32 * MIB))
            os.fsync(stream.fileno())
    run("cp", "--reflink=always", str(path), str(kept))
    with kept.open("r+b") as stream:
        stream.write(noise(32 * MIB))
        os.fsync(stream.fileno())
    snapshot(btrfs, "hourly")
    owner = hypervisor(tmp_path)
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "a reflink in current" in result.reason
    assert result.changes == []


@pytest.mark.slow
def test_zeros_of_a_strange_name_are_named_too(btrfs: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(btrfs) + b"/current/\xff\n.img"))
    dense(path)
    snapshot(btrfs, "hourly")
    found, words = verdict(tmp_path, path)
    assert found is Verdict.NONCOMPLIANT
    assert "hourly" in words


def test_the_upmost_of_mounts_above_one_another_counts(tmp_path: Path) -> None:
    require("tmpfs")
    with mounted("tmpfs", tmp_path) as folder:
        run("mount", "-t", "ramfs", "ramfs", str(folder))
        try:
            assert mount_of(testinfra.get_host("local://"), str(folder / "web.img")) == ("ramfs", str(folder))
        finally:
            run("umount", str(folder))


@pytest.mark.slow
def test_what_nothing_pins_comes_back_beside_what_is_pinned(btrfs: Path, tmp_path: Path) -> None:
    path = write(btrfs / "current/web.img", (0, noise(MIB)), (MIB, bytes(31 * MIB)))
    run("cp", "--reflink=always", str(path), str(btrfs / "current/daily.img"))
    with path.open("r+b") as stream:
        stream.seek(32 * MIB)
        stream.write(bytes(32 * MIB))
    content, held = checksum(path), allocated(path)
    result = engine(owner := hypervisor(tmp_path), tmp_path).run(requirement("sparse-backup"), subject(owner, path))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "a reflink in current" in result.reason
    assert "was:" in result.reason
    assert held - allocated(path) == 32 * MIB
    assert checksum(path) == content
    assert [change.applied for change in result.changes] == [True]


@pytest.mark.slow
def test_a_rewrite_on_btrfs_stays_without_copy_on_write(btrfs: Path, tmp_path: Path) -> None:
    path = btrfs / "web.img"
    path.touch()
    run("chattr", "+C", str(path))
    with path.open("r+b") as stream:
        stream.write(noise(DATA * MIB) + bytes(32 * MIB))
        os.fsync(stream.fileno())
    mend(tmp_path, path)
    assert "C" in run("lsattr", str(path)).split()[0]


def test_a_reflink_on_xfs_is_left(tmp_path: Path) -> None:
    require("xfs")
    with mounted("xfs", tmp_path) as folder:
        path = dense(folder / "web.img")
        run("cp", "--reflink=always", str(path), str(folder / "yesterday.img"))
        owner = hypervisor(tmp_path)
        result = engine(owner, tmp_path).run(requirement("sparse-backup"), subject(owner, path))
        assert "pinned by a reflink" in result.reason
        assert result.changes == []


@pytest.mark.slow
def test_hard_links_stay_together(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    (tmp_path / "daily.1").mkdir()
    os.link(path, tmp_path / "daily.1/web.img")
    mend(tmp_path, path)
    assert path.samefile(tmp_path / "daily.1/web.img")


# Files that are not to be touched -------------------------------------------------------------


def withheld(folder: Path, path: Path, owner: Hypervisor | None = None) -> str:
    """The row of a fix that is withheld; the file is as it was."""
    before, content = path.stat(), checksum(path)
    owner = owner or hypervisor(folder)
    result = engine(owner, folder).run(requirement("sparse-backup"), subject(owner, path))
    after = path.stat()
    assert (after.st_blocks, after.st_mtime_ns, after.st_ino) == (before.st_blocks, before.st_mtime_ns, before.st_ino)
    assert checksum(path) == content
    assert result.changes == []
    return f"{result.verdict} {result.reason}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_a_file_that_something_has_open_is_left(tmp_path: Path, mode: str) -> None:
    path = dense(tmp_path / "web.img")
    script = f"import sys, time; f = open({str(path)!r}, {mode!r}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        said = withheld(tmp_path, path)
        process.kill()
    assert f"it is open in python3 ({process.pid})" in said or f"({process.pid})" in said
    assert "withheld" in said
    mend(tmp_path, path)


@pytest.mark.slow
@pytest.mark.parametrize("through", ["itself", "hard link", "symbolic link", "backing file"])
def test_the_image_of_a_defined_guest_is_no_copy(tmp_path: Path, through: str) -> None:
    path = qcow2_full(tmp_path / "base.qcow2")
    used = path
    if through == "hard link":
        used = tmp_path / "link.qcow2"
        os.link(path, used)
    elif through == "symbolic link":
        used = tmp_path / "link.qcow2"
        used.symlink_to(path)
    elif through == "backing file":
        used = tmp_path / "overlay.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", str(used))
    owner = hypervisor(tmp_path, str(used))
    assert "not-applicable" in withheld(tmp_path, path, owner)
    # and the change itself refuses, should a guest have been defined since
    with pytest.raises(ChangeFailed, match="the guest one uses it"):
        HolePunch.of(str(path), holes.scan(str(path))).apply(owner)


@pytest.mark.slow
def test_a_volume_of_a_defined_guest_is_no_copy(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    names = (("images", "web.img"), ("images", "other.img"), ("other", "web.img"))
    disks = [
        f"<disk type='volume'><source pool='{pool}' volume='{name}'/><target dev='vd{letter}' bus='virtio'/></disk>"
        for letter, (pool, name) in zip("abc", names, strict=True)
    ]
    owner = opened(tmp_path, domain_xml(*disks, running=False))
    pool = owner.connection.storagePoolCreateXML(
        f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>"
    )
    pool.createXML("<volume><name>web.img</name><capacity>1024</capacity></volume>")
    assert "not-applicable" in withheld(tmp_path, path, owner)
    with pytest.raises(ChangeFailed, match="the guest one uses it"):
        HolePunch.of(str(path), holes.scan(str(path))).apply(owner)


@pytest.mark.slow
def test_who_opens_the_copy_meanwhile_gets_it_and_nothing_is_lost(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, (noise(4096) + bytes(4096)) * (SIZE * MIB // 8192)))
    content, before = checksum(path), path.stat()
    reader: list[subprocess.Popen[bytes]] = []
    owner = hypervisor(tmp_path)

    def read_along(_text: str) -> None:
        pass

    with holes.opened(str(path), os.O_RDWR) as descriptor, holes.alone_with(descriptor, str(path)) as still_ours:

        def meter(_count: int) -> None:
            if not reader:
                reader.append(subprocess.Popen(["sha256sum", str(path)], stdout=subprocess.PIPE))
                deadline = time.monotonic() + 20
                while fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK and time.monotonic() < deadline:
                    time.sleep(0.01)

        with pytest.raises(ChangeFailed, match="another process wants to open it"):
            holes.punch_out(descriptor, still_ours, meter)
    output, _ = reader[0].communicate(timeout=60)
    assert output.decode().split()[0] == content == checksum(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    owner.progress = read_along
    mend(tmp_path, path)


@pytest.mark.slow
def test_it_can_be_interrupted_at_any_point(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", (0, (noise(4096) + bytes(4096)) * (SIZE * MIB // 8192)))
    content, before = checksum(path), path.stat()
    with holes.opened(str(path), os.O_RDWR) as descriptor, holes.alone_with(descriptor, str(path)) as still_ours:
        read: list[int] = []

        def meter(count: int) -> None:
            read.append(count)
            if len(read) == 20:
                signal.raise_signal(signal.SIGINT)

        # started in the background, as CI may be, Python inherits that SIGINT is ignored
        handler = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                holes.punch_out(descriptor, still_ours, meter)
        finally:
            signal.signal(signal.SIGINT, handler)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_blocks < before.st_blocks
    assert checksum(path) == content
    mend(tmp_path, path)
    assert checksum(path) == content


# Filesystems without punch --------------------------------------------------------------------


def rewritten(path: Path) -> SparseRewrite:
    return SparseRewrite.of(str(path), holes.scan(str(path)))


@pytest.mark.slow
@pytest.mark.parametrize("make", [dense, fallocated, scattered, qcow2_full])
def test_a_sparse_rewrite_is_the_same_file_to_its_users(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path / "web.img")
    path.chmod(0o640)
    if os.geteuid() == 0:  # only root gives files away
        os.chown(path, 12, 34)
    os.setxattr(path, "user.origin", b"kvm1")
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    before, content, held = path.stat(), checksum(path), allocated(path)
    folder = sorted(tmp_path.iterdir())
    owner = hypervisor(tmp_path)
    outcome = rewritten(path).apply(owner)
    after = path.stat()
    assert checksum(path) == content
    for kept in ("st_size", "st_mtime_ns", "st_mode", "st_uid", "st_gid", "st_nlink"):
        assert getattr(after, kept) == getattr(before, kept), kept
    assert os.getxattr(path, "user.origin") == b"kvm1"
    assert held - allocated(path) >= 7 * MIB
    assert outcome["freed"] == str(held - allocated(path))
    assert sorted(one for one in tmp_path.iterdir() if one.name != "node.xml") == folder
    assert verdict(tmp_path, path)[0] is Verdict.COMPLIANT


@pytest.mark.slow
def test_a_full_target_loses_nothing(tmp_path: Path) -> None:
    require("ext4")
    with mounted("ext4", tmp_path, 100) as folder:
        path = write(folder / "web.img", (0, noise(48 * MIB)), (48 * MIB, bytes(16 * MIB)))
        content = checksum(path)
        found = Backup(hypervisor(tmp_path), str(path))
        assert "a rewrite needs" in str(backup.why_not_rewritten(found))
        with pytest.raises(ChangeFailed, match="No space left on device; its content is as it was"):
            rewritten(path).apply(hypervisor(tmp_path))
        assert checksum(path) == content
        assert [one.name for one in folder.iterdir() if one.name != "lost+found"] == ["web.img"]
        # punching takes no room
        mend(tmp_path, path)


# Bad input ------------------------------------------------------------------------------------


def damaged(offset: int, content: bytes) -> Callable[[Path], Path]:
    """A qcow2 with other bytes in its header."""

    def make(path: Path) -> Path:
        thin(path)
        with path.open("r+b") as stream:
            stream.seek(offset)
            stream.write(content)
        return path

    return make


def short(path: Path) -> Path:
    return write(path, (0, b"QFI\xfb"), size=50)


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/null")
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


def truncated(path: Path) -> Path:
    qcow2(path, "write 0 8M")
    os.truncate(path, 100_000)
    return path


def packed(path: Path) -> Path:
    path.write_bytes(b"\x28\xb5\x2f\xfd" + noise(1000))
    return path


@pytest.mark.parametrize(
    ("make", "found", "words"),
    [
        pytest.param(lambda path: path, Verdict.ERROR, "No such file or directory", id="vanished"),
        pytest.param(folder, Verdict.NOT_ASSESSABLE, "a directory, not a file", id="directory"),
        pytest.param(device, Verdict.NOT_ASSESSABLE, "a character device, not a file", id="device"),
        pytest.param(pipe, Verdict.NOT_ASSESSABLE, "a pipe, not a file", id="pipe"),
        pytest.param(packed, Verdict.NOT_ASSESSABLE, "a zstd file", id="packed"),
        pytest.param(truncated, Verdict.NOT_ASSESSABLE, "truncated", id="truncated"),
        pytest.param(short, Verdict.NOT_ASSESSABLE, "ends within", id="short"),
        pytest.param(damaged(4, b"\0\0\0\x09"), Verdict.NOT_ASSESSABLE, "version 9", id="version"),
        pytest.param(damaged(20, b"\0\0\0\x3f"), Verdict.NOT_ASSESSABLE, "2^63", id="cluster bits"),
        pytest.param(damaged(36, b"\xff" * 4), Verdict.NOT_ASSESSABLE, "larger than any", id="tables"),
        pytest.param(damaged(40, b"\x7f" * 8), Verdict.NOT_ASSESSABLE, "truncated", id="table far away"),
        pytest.param(damaged(24, b"\0\xff" * 4), Verdict.NOT_ASSESSABLE, "too short", id="virtual size"),
        pytest.param(damaged(0, b"OOPS"), Verdict.NOT_ASSESSABLE, "does not begin like", id="no qcow2"),
    ],
)
def test_bad_copies_are_told_in_one_line(
    tmp_path: Path, make: Callable[[Path], Path], found: Verdict, words: str
) -> None:
    said = verdict(tmp_path, make(tmp_path / "web.qcow2"))
    assert said[0] is found
    assert words in said[1]
    assert "\n" not in said[1]
    assert str(tmp_path / "web.qcow2") in said[1]


@pytest.mark.parametrize("name", ["/nowhere/shadow", 'json:{"driver":"file","filename":"/nowhere"}', "nbd://[::1]:1/x"])
def test_what_a_header_names_is_never_opened(tmp_path: Path, name: str) -> None:
    path = thin(tmp_path / "web.qcow2")
    data = name.encode()
    with path.open("r+b") as stream:
        stream.seek(8)
        stream.write(struct.pack(">QI", 0x200, len(data)))
        stream.seek(0x200)
        stream.write(data)
    # who opens what is named fails; so does qemu-img where it is let
    refused = subprocess.run(["qemu-img", "map", "-f", "qcow2", str(path)], capture_output=True, text=True, check=False)
    assert "Could not open backing file" in refused.stderr
    descriptor, found = local_image.open_image(str(path))
    try:
        assert found.qcow2 is not None
        assert found.qcow2.backing == name
        assert local_image.mapped(descriptor, found, str(path)) == 8 * MIB
    finally:
        os.close(descriptor)
    assert verdict(tmp_path, path)[0] is Verdict.COMPLIANT


def test_an_external_data_file_is_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "web.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={tmp_path}/data", str(path), "8M")
    descriptor, found = local_image.open_image(str(path))
    try:
        assert found.qcow2 is not None
        assert found.qcow2.external_data
        assert local_image.mapped(descriptor, found, str(path)) is None
    finally:
        os.close(descriptor)


def test_qemu_img_is_limited_in_output_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-img"
    executable(program, "#!/bin/sh\nexec yes\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ProbeError, match="bytes of output"):
        local_image.qemu_img(["map"], (), "web.qcow2")
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr(local_image, "QEMU_IMG_SECONDS", 0.2)
    with pytest.raises(ProbeError, match="no answer within"):
        local_image.qemu_img(["map"], (), "web.qcow2")


@pytest.mark.slow
def test_data_that_a_qcow2_no_longer_refers_to_is_told(tmp_path: Path) -> None:
    path = qcow2(tmp_path / "web.qcow2", "write -P 7 0 40M")
    run("qemu-io", "-f", "qcow2", "--discard=ignore", "-c", "write 0 4k", str(path))
    # cleared in the tables, not in the file: so an image lies on storage that punches no holes
    script = "import os, sys; f = os.open(sys.argv[1], os.O_RDONLY); os.pread(f, 1, 0)"
    run(sys.executable, "-c", script, str(path))
    stale = tmp_path / "stale.qcow2"
    run("cp", str(path), str(stale))
    run("qemu-io", "-f", "qcow2", "--discard=unmap", "-c", "discard 0 32M", str(path))
    _put_data_back(path, stale)
    found, words = verdict(tmp_path, path)
    assert found is Verdict.NONCOMPLIANT
    assert "data that the disk in the image no longer has" in words
    assert "qemu-img convert" in withheld(tmp_path, path)


def _put_data_back(path: Path, older: Path) -> None:
    """Let the holes of *path* hold what they held in *older*."""
    with path.open("r+b") as stream, older.open("rb") as source:
        for start, end in list(holes.hole_spans(stream.fileno(), min(path.stat().st_size, older.stat().st_size))):
            source.seek(start)
            stream.seek(start)
            stream.write(source.read(end - start))


# The journal ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_journal_has_it_and_undo_is_honest(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    owner = hypervisor(tmp_path)
    one = engine(owner, tmp_path)
    one.run(requirement("sparse-backup"), subject(owner, path))
    one.journal.end()
    record = read(one.journal.path)
    assert [entry.uuid for entry in record.applied] == [""]
    assert from_json(json.loads(json.dumps(to_json(record.applied[0].change)))) == record.applied[0].change
    held, content = allocated(path), checksum(path)
    said: list[str] = []
    assert undo.undo(one.journal.path.parent, said.append)
    assert said == [f"test-driver: sparse-backup: {path}: the holes stay: its content is the same"]
    assert (allocated(path), checksum(path)) == (held, content)
