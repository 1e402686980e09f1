"""What a guest, or whoever made a copy, writes into the first bytes of an image: bounded, and of a raw disk ignored."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.backups.backup import Backup, find
from reclaim.backups.verify import verify
from reclaim.base.errors import NotAssessable, ProbeError, ReclaimError
from reclaim.base.verdict import Verdict
from reclaim.engine.engine import Subject, judge
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inside.disk_layout import _parts
from reclaim.inventory import BackupNotes
from reclaim.storage import host_image, local_image, qcow2
from reclaim.storage.image_users import users_of
from tests.corpus.variants import arguments
from tests.filesystems import MIB, run
from tests.support import domain_xml, opened, requirement

HEADER = {
    "magic": qcow2.MAGIC,
    "version": 3,
    "backing_offset": 0,
    "backing_size": 0,
    "cluster_bits": 16,
    "size": MIB,
    "crypt": 0,
    "l1_size": 1,
    "l1_offset": 65536,
    "refcount_offset": 65536,
    "refcount_clusters": 1,
    "snapshots": 0,
    "snapshots_offset": 0,
    "incompatible": 0,
    "compatible": 0,
    "autoclear": 0,
    "refcount_order": 4,
    "header_length": 104,
}
FORM = struct.Struct(">4sIQIIQIIQQIIQQQQII")
#: numbers that break a signed or unsigned word of each size
ODD = (0, 1, 7, 8, 9, 22, 63, 64, 1023, 1024, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
WIDE = {"backing_offset", "size", "l1_offset", "refcount_offset", "snapshots_offset"} | {
    "incompatible",
    "compatible",
    "autoclear",
}


def header(path: Path, tail: bytes = b"", **fields: Any) -> Path:
    """A file that begins like a qcow2, with other fields; *tail* follows the header."""
    with path.open("wb") as stream:
        stream.truncate(2 * MIB)
        stream.write(FORM.pack(*{**HEADER, **fields}.values()) + tail)
    return path


def extension(kind: int, data: bytes, length: int | None = None) -> bytes:
    size = len(data) if length is None else length
    return struct.pack(">II", kind, size) + data + bytes(-len(data) % 8)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def look(path: Path) -> None:
    """Everything that reads a header of a file that is here."""
    with local_image.opened_image(str(path)) as (descriptor, found):
        if found.qcow2 is None:
            return
        assert found.qcow2.tables >= 0
        local_image.named_files(descriptor, found, str(path))
        table = os.pread(descriptor, 4096, found.qcow2.snapshots_at)
        qcow2.snapshot_names(found.qcow2, table, 5)


@pytest.mark.parametrize("field", [name for name in HEADER if name != "magic"])
@pytest.mark.parametrize("number", ODD)
def test_no_number_in_a_header_gets_further_than_its_own_line(tmp_path: Path, field: str, number: int) -> None:
    if field not in WIDE and number >= 2**32:
        number %= 2**32
    path = header(tmp_path / "web.qcow2", b"", **{field: number})
    before = descriptors()
    try:
        look(path)
    except (NotAssessable, ProbeError) as exc:
        assert "\n" not in str(exc)  # noqa: PT017
    assert descriptors() == before


@pytest.mark.slow
def test_headers_of_any_bytes_raise_nothing_else(tmp_path: Path) -> None:
    chance = random.Random(3)
    before = descriptors()
    refused = 0
    for number in range(3000):
        raw = bytearray(FORM.pack(*HEADER.values()) + extension(0xE2792ACA, b"raw") + extension(0x44415441, b"data"))
        for _ in range(chance.choice((1, 2, 4, 8))):
            at = chance.randrange(4, len(raw))
            raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        path = tmp_path / "web.qcow2"
        path.write_bytes(
            raw[: chance.choice((len(raw), len(raw), chance.randrange(1, len(raw)))) + 4] + bytes(number % 7)
        )
        os.truncate(path, chance.choice((path.stat().st_size, 2 * MIB)))
        try:
            look(path)
        except (NotAssessable, ProbeError):
            refused += 1
    assert descriptors() == before
    assert 500 < refused < 3000


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"backing_offset": 2**63, "backing_size": 1}, "points behind any file"),
        ({"backing_offset": 65_530, "backing_size": 100}, "points behind any file"),
        ({"backing_offset": 200, "backing_size": 1024}, "larger than any"),
        ({"snapshots": 70_000}, "larger than any"),
        ({"snapshots_offset": 2**63}, "points behind any file"),
        ({"l1_size": 2**22 + 1}, "larger than any"),
        ({"l1_offset": 2**63}, "truncated"),
        ({"refcount_order": 7}, "refcounts of 2^7 bits"),
        ({"header_length": 103}, "a header of 103 bytes"),
        ({"header_length": 65_537}, "a header of 65537 bytes"),
        ({"cluster_bits": 8}, "clusters of 2^8 bytes"),
        ({"cluster_bits": 22}, "clusters of 2^22 bytes"),
        ({"size": 2**64 - 1}, "too short"),
    ],
)
def test_a_broken_header_says_what_is_broken(tmp_path: Path, fields: dict[str, int], words: str) -> None:
    path = header(tmp_path / "web.qcow2", b"", **fields)
    with pytest.raises(NotAssessable) as caught:
        look(path)
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_the_extensions_say(tmp_path: Path) -> None:
    tail = extension(0xE2792ACA, b"qcow2") + extension(0x6803F857, bytes(96)) + extension(0x44415441, b"disk.raw")
    name = b"ba\xffse\0junk"
    path = header(
        tmp_path / "web.qcow2",
        tail + bytes(8) + name,
        incompatible=4,
        backing_offset=112 + len(tail),
        backing_size=len(name),
    )
    with local_image.opened_image(str(path)) as (descriptor, found):
        named = local_image.named_files(descriptor, found, str(path))
    # a name ends with its NUL, and may be of any bytes
    assert named == qcow2.Named("ba\udcffse", "qcow2", "disk.raw")


@pytest.mark.parametrize("length", [2**32 - 1, 70_000, 9])
def test_an_extension_that_is_longer_than_the_header_is_refused(tmp_path: Path, length: int) -> None:
    tail = extension(0xE2792ACA, b"raw", length)
    path = header(tmp_path / "web.qcow2", tail, backing_offset=104 + len(tail), backing_size=1)
    with pytest.raises(NotAssessable, match="an extension is longer than the header"):
        look(path)


def test_extensions_end_where_the_header_does(tmp_path: Path) -> None:
    path = header(tmp_path / "web.qcow2", backing_offset=60, backing_size=4)
    with local_image.opened_image(str(path)) as (descriptor, found):
        assert local_image.named_files(descriptor, found, str(path)).backing_format == ""


# Raw disks ------------------------------------------------------------------------------------


def disk(source: Path, kind: str, target: str = "vda") -> str:
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='{kind}'/><source file='{source}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
    )


def fleet(folder: Path, *images: tuple[str, str]) -> Hypervisor:
    """A guest for each image, by its format and name."""
    return opened(
        folder,
        *(domain_xml(disk(folder / name, kind), name=name.partition(".")[0], running=False) for kind, name in images),
    )


def copies(folder: Path, *names: str) -> Path:
    top = folder / "copies"
    top.mkdir()
    for name in names:
        (top / name).write_bytes(b"copy" + bytes(16 * MIB) + b"end")
    return top


@pytest.mark.slow
@pytest.mark.parametrize("offset", [200, 2**63, 2**64 - 1, 65_000])
@pytest.mark.parametrize("name", ["copies/db.img", "/dev/zero", "nbd://127.0.0.1:1/x", "\0", "x" * 1023])
def test_a_raw_disk_hides_and_breaks_nobody_elses_copy(tmp_path: Path, offset: int, name: str) -> None:
    evil, raw = tmp_path / "evil.raw", name.encode()
    header(evil, bytes(200 - FORM.size) + raw, backing_offset=offset, backing_size=len(raw))
    top = copies(tmp_path, "db.img", "web.img", "evil.raw")
    (top / "evil.raw").write_bytes(evil.read_bytes())
    owner = fleet(tmp_path, ("raw", "evil.raw"), ("raw", "db.img"), ("raw", "web.img"))
    found = find(owner, [BackupNotes(path=top)], owner.guests)
    verdicts = {
        str(one.path): judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one)).verdict
        for one in found.backups
    }
    assert verdicts == {
        f"{top}/db.img": Verdict.NONCOMPLIANT,
        f"{top}/web.img": Verdict.NONCOMPLIANT,
        # its copy is a raw one too, and sparse
        f"{top}/evil.raw": Verdict.COMPLIANT,
    }
    assert {use.guest for use in users_of(owner, evil.stat())} == {"evil"}
    assert [users_of(owner, (top / name).stat()) for name in ("db.img", "web.img")] == [[], []]


def test_a_raw_base_is_raw_where_its_overlay_says_so(tmp_path: Path) -> None:
    """The guest of the overlay once had the base as its own raw disk, and wrote a header into it."""
    top = copies(tmp_path, "db.img")
    name = str(top / "db.img").encode()
    header(tmp_path / "base.raw", bytes(200 - FORM.size) + name, backing_offset=200, backing_size=len(name))
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", str(tmp_path / "web.qcow2"), "8M")
    owner = fleet(tmp_path, ("qcow2", "web.qcow2"))
    assert [use.depth for use in users_of(owner, (tmp_path / "base.raw").stat())] == [1]
    assert Backup(owner, str(top / "db.img")).user() is None


def test_the_data_file_of_a_qcow2_is_its_guests(tmp_path: Path) -> None:
    data = tmp_path / "data.img"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data}", str(tmp_path / "web.qcow2"), "8M")
    assert Backup(fleet(tmp_path, ("qcow2", "web.qcow2")), str(data)).user() == "web"
    assert Backup(fleet(tmp_path, ("raw", "web.qcow2")), str(data)).user() is None


@pytest.mark.parametrize(
    "name",
    [
        'json:{"driver":"raw","file":{"driver":"file","filename":"BASE"}}',
        'json:{"driver":"quorum","vote-threshold":1,"children.0.driver":"raw","children.0.file.filename":"BASE"}',
        "file:BASE",
    ],
)
def test_a_base_is_its_guests_however_it_is_named(tmp_path: Path, name: str) -> None:
    top = copies(tmp_path, "web.img")
    base, overlay = str(top / "web.img"), str(tmp_path / "web.qcow2")
    options = ["-u", "-b", name.replace("BASE", base), "-F", "raw"]
    run("qemu-img", "create", "-q", "-f", "qcow2", *options, overlay, "8M")
    assert Backup(fleet(tmp_path, ("qcow2", "web.qcow2")), base).user() == "web"


def test_a_disk_in_the_arguments_is_its_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copies(tmp_path, "web.img") / "web.img"
    owner = opened(tmp_path, domain_xml(name="hidden", running=False))
    assert users_of(owner, path.stat()) == []
    xml = domain_xml(arguments("-drive", f"if=none,file={path}"), name="hidden")
    xml = xml.replace("<devices>", "").replace("</devices>", "")
    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", lambda _domain, _flags: xml)  # the test driver keeps no such
    assert [use.guest for use in users_of(owner, path.stat())] == ["hidden"]


def test_a_raw_image_is_compared_as_raw_whatever_its_guest_wrote(tmp_path: Path) -> None:
    """Read as a qcow2 without clusters, two disks of any content would be alike."""
    live = header(tmp_path / "web.img", backing_offset=100, backing_size=1)
    copy = tmp_path / "copies"
    copy.mkdir()
    path = header(copy / "web.img", backing_offset=100, backing_size=1)
    owner = fleet(tmp_path, ("raw", "web.img"))
    assert verify(str(path), owner, None, lambda _text: None)
    with live.open("r+b") as stream:
        stream.seek(MIB + 5)
        stream.write(b"other")
    assert not verify(str(path), owner, None, lambda _text: None)
    assert not verify(str(path), owner, str(live), lambda _text: None)
    with pytest.raises(ReclaimError, match="neither a definition nor its name marks"):
        verify(str(path), None, str(live), lambda _text: None)


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_a_header_that_changes_once_it_was_read_is_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-img would open the data file that it names by then."""
    path = tmp_path / "web.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M")
    os.chown(path, 65534, 65534)
    asked: list[object] = []
    monkeypatch.setattr(local_image, "qemu_img", lambda *arguments, **_more: asked.append(arguments))
    with local_image.opened_image(str(path)) as (descriptor, found):
        with path.open("r+b") as stream:
            with pytest.raises(ProbeError, match=r"it is open in|a process has it open"):
                local_image.mapped(descriptor, found, str(path))
            stream.seek(72)
            stream.write(struct.pack(">Q", 4))
        assert local_image.mapped(descriptor, found, str(path)) is None
    assert asked == []


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_who_wants_to_write_to_a_copy_stops_qemu_img(tmp_path: Path) -> None:
    path = tmp_path / "web.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M")
    os.chown(path, 65534, 65534)
    with local_image.opened_image(str(path)) as (descriptor, found):

        def somebody_opens(*_arguments: object, **more: Any) -> None:
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            more["watch"]()

        patch = pytest.MonkeyPatch()
        patch.setattr(local_image, "qemu_img", somebody_opens)
        with pytest.raises(ProbeError, match="another process wants to write to it"):
            local_image.mapped(descriptor, found, str(path))
        patch.undo()
        assert local_image.mapped(descriptor, found, str(path)) == 0


# Numbers of the host --------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["9" * 5000, "²", "٣" * 30, "-1"])
def test_no_number_of_another_is_too_long_to_be_read(count: str) -> None:
    assert host_image.thin_bytes(f"0 100 thin {count} 99") is None
    assert _parts("linear", ("253:0", count), 100) is None
    assert _parts("striped", (count, "128", "253:0", "0"), 100) is None
