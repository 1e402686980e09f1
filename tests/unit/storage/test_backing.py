"""The files that headers name, and the places that such names mean."""

from __future__ import annotations

import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import NotAssessable
from reclaim.storage import backing
from reclaim.storage.backing import Leaf, Names
from tests.images import qcow2_header

if TYPE_CHECKING:
    from pathlib import Path

needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


def create(path: Path, *, base: str | Path | None = None, kind: str = "qcow2", base_kind: str = "qcow2") -> str:
    """A real image, on *base* where one is given."""
    below = ["-u", "-b", str(base), "-F", base_kind] if base else []
    command = ["qemu-img", "create", "-q", "-f", kind, *below, str(path), "16M"]
    subprocess.run(command, check=True, capture_output=True)
    return str(path)


def _read(data: bytes) -> backing.Read:
    return lambda offset, length: data[offset : offset + length]


@pytest.mark.parametrize("kind", ["qcow2", "qcow", "qed", "vmdk"])
@pytest.mark.parametrize("told", [True, False])
def test_what_real_headers_name(tmp_path: Path, kind: str, *, told: bool) -> None:
    base_kind = "raw" if kind in ("qcow", "qed") else kind
    base = create(tmp_path / "base", kind=base_kind)
    path = create(tmp_path / "top", kind=kind, base=base, base_kind=base_kind)
    found = backing.names(_read((tmp_path / "top").read_bytes()), kind if told else None, path)
    assert found.backing == base
    assert backing.names(_read((tmp_path / "base").read_bytes()), base_kind, base).backing is None


def test_another_format_names_nothing_and_garbage_is_refused() -> None:
    assert backing.names(_read(b"QFI\xfb" + bytes(200)), "raw", "x") == Names()
    assert backing.names(_read(bytes(512)), None, "x") == Names()
    for data, kind in ((b"", "qcow2"), (bytes(512), "qcow2"), (b"QFI\xfb\0\0\0\x03", "qcow2"), (b"", None)):
        with pytest.raises(NotAssessable):
            backing.names(_read(data), kind, "x")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("base.qcow2", "/d/base.qcow2"),
        ("/x/base.qcow2", "/x/base.qcow2"),
        ("./a:b.qcow2", "/d/a:b.qcow2"),
        ("file:base.qcow2", "/d/base.qcow2"),
        ("host_device:/dev/vg/a", "/dev/vg/a"),
        ("rbd:pool/a:id=admin:mon_host=m", "rbd:pool/a"),
        ("gluster+tcp://h1/vol/a.img", "gluster:vol/a.img"),
        ("nbd:h:10809:exportname=a", "nbd://h:10809/a"),
        ("nbd:unix:/run/x:exportname=a", "nbd:/run/x/a"),
        ("nbd+unix:///a?socket=/run/x", "nbd:/run/x/a"),
        ("nbd://h/a", "nbd://h:10809/a"),
        ("ssh://me@h/a.img?host_key_check=no", "ssh://h:22/a.img"),
        ("blkdebug:/etc/rules:b.img", "/d/b.img"),
        ('json:{"file":{"driver":"file","filename":"b.img"}}', "/d/b.img"),
        ('json:{"driver":"qcow2","file.driver":"file","file.filename":"/b.img"}', "/b.img"),
        ('json:{"file":{"driver":"raw","file.filename":"/b.img"}}', "/b.img"),
        ('json:{"driver":"raw","file":{"driver":"blkdebug","image":{"driver":"file","filename":"/b"}}}', "/b"),
        ('json:{"driver":"raw","file":{"driver":"rbd","pool":"p","image":"i"}}', "rbd:p/i"),
        ('json:{"driver":"rbd","pool":"p","namespace":"n","image":"i"}', "rbd:p/n/i"),
        ('json:{"driver":"gluster","volume":"v","path":"/i","server":[{"type":"tcp","host":"h"}]}', "gluster:v/i"),
        ('json:{"driver":"raw","file.driver":"iscsi","file.target":"iqn.x","file.lun":1}', "iscsi:iqn.x/1"),
        ('json:{"driver":"nbd","export":"a","server":{"type":"inet","host":"h","port":"1"}}', "nbd://h:1/a"),
        ('json:{"driver":"nbd","export":"a","server":{"type":"unix","path":"/run/x"}}', "nbd:/run/x/a"),
        ('json:{"driver":"raw","file":{"driver":"https","url":"https://h/x"}}', "https:"),
    ],
)
def test_where_a_name_leads(name: str, place: str) -> None:
    assert [one.place for one in backing.locations(name, "/d", "raw")] == [place]


def test_a_name_may_lead_to_several_files_each_of_its_format() -> None:
    quorum = 'json:{"driver":"quorum","vote-threshold":1,"children":[{"driver":"qcow2","file":{"filename":"a"}}'
    assert backing.locations(f'{quorum},{{"filename":"/b"}}]}}', "/d", "raw") == [("/d/a", "qcow2"), ("/b", "raw")]
    flat = 'json:{"driver":"quorum","children.0.driver":"file","children.0.filename":"/a","children.1.filename":"/b"}'
    assert [one.place for one in backing.locations(flat, "/d", "raw")] == ["/a", "/b"]
    over = 'json:{"driver":"qcow2","file":{"filename":"/a"},"backing":{"driver":"raw","file":{"filename":"/b"}}}'
    assert backing.locations(over, "/d", "qcow2") == [("/a", "qcow2"), ("/b", "raw")]
    assert backing.locations("blkverify:/a:/b", "/d", "qcow2") == [("/a", "raw"), ("/b", "qcow2")]


@pytest.mark.parametrize(
    "name",
    [
        "json:{",
        "json:[]",
        "json:{}",
        'json:{"driver":"qcow2","file":"a-node"}',
        'json:{"driver":"of-tomorrow","place":"/b"}',
        'json:{"driver":"file","filename":5}',
        "json:" + '{"file":' * 200 + "{}" + "}" * 200,
        "json:" + "[" * 100_000,
        'json:{"' + ".".join("a" * 5_000) + '":1}',
    ],
)
def test_a_name_that_is_not_understood_is_no_answer(name: str) -> None:
    with pytest.raises(NotAssessable):
        backing.locations(name, "/d", None)


# Headers by hand ------------------------------------------------------------------------------


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


FORMAT, DATA = 0xE2792ACA, 0x44415441


def _names(data: bytes, kind: str | None = "qcow2") -> Names:
    return backing.names(_read(data), kind, "/srv/a")


@pytest.mark.parametrize("version", [2, 3])
def test_the_extensions_of_a_qcow2_begin_behind_its_header(version: int) -> None:
    head = qcow2_header(version=version, backing_at=1000, backing_size=6)
    head = (head[:72] if version == 2 else head) + _extension(0x6803F857, bytes(5)) + _extension(FORMAT, b"raw")
    data = (head + _extension(DATA, b"/d\xff")).ljust(1000, b"\0") + b"/ba\xffse.img"
    assert _names(data) == Names("/ba\udcffse", "raw", "/d\udcff")


def test_a_longer_header_is_passed_over() -> None:
    data = qcow2_header(header_length=112) + bytes(8) + _extension(FORMAT, b"raw")
    assert _names(data).format == "raw"
    assert _names(qcow2_header() + bytes(8) + _extension(FORMAT, b"raw")).format is None


def test_the_first_of_several_formats_counts() -> None:
    assert _names(qcow2_header() + _extension(FORMAT, b"raw") + _extension(FORMAT, b"qcow2")).format == "raw"


@pytest.mark.parametrize(
    "data", [qcow2_header()[:103], qcow2_header(version=4), qcow2_header(version=0), qcow2_header()[:23]]
)
def test_a_qcow2_that_ends_early_or_of_another_version_is_refused(data: bytes) -> None:
    with pytest.raises(NotAssessable, match="/srv/a: "):
        _names(data)


def test_a_name_is_cut_at_the_longest() -> None:
    data = qcow2_header(backing_at=200, backing_size=5000).ljust(200, b"\0") + b"x" * 5000
    assert _names(data).backing == "x" * 1023
    assert _names(qcow2_header(backing_at=0, backing_size=9)).backing is None


def _qed(features: int) -> bytes:
    head = b"QED\0" + bytes(12) + struct.pack("<Q", features)
    return head.ljust(56, b"\0") + struct.pack("<II", 64, 4) + b"base"


@pytest.mark.parametrize(
    ("features", "names"),
    [(0, Names()), (1, Names("base")), (5, Names("base", "raw")), (4, Names())],
)
def test_the_features_of_a_qed(features: int, names: Names) -> None:
    assert _names(_qed(features), "qed") == names


def test_the_shortest_headers_are_read() -> None:
    assert _names(b"QFI\xfb\0\0\0\1" + bytes(16), "qcow") == Names()
    assert _names(_qed(0)[:64], "qed") == Names()
    with pytest.raises(NotAssessable):
        _names(_qed(0)[:63], "qed")


def test_an_old_qcow_names_no_format() -> None:
    data = b"QFI\xfb\0\0\0\1" + struct.pack(">QI", 24, 4) + bytes(4) + b"base"
    assert _names(data, "qcow") == Names("base")


@pytest.mark.parametrize("begin", [b"KDMV", b"# Disk DescriptorFile\n"])
def test_a_vmdk_has_a_hint(begin: bytes) -> None:
    assert _names(begin + b'\n parentFileNameHint="ba\xffse.vmdk"\n', "vmdk") == Names("ba\udcffse.vmdk", "vmdk")
    assert _names(begin + b'\nx parentFileNameHint="base"\n', "vmdk") == Names(None, "vmdk")


# Places by hand -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("iscsi://h/iqn.x/1", "iscsi:iqn.x/1"),
        ("sheepdog+tcp://h/vdi", "sheepdog:vdi"),
        ("rbd:pool/a@snap", "rbd:pool/a"),
        ("nbd+tcp://h:1/a?x", "nbd://h:1/a"),
        ("nbd+unix:///a?x=1&socket=/run/x%20y", "nbd:/run/x y/a"),
        ("nbd:h:1", "nbd://h:1/"),
        ("nfs://h/a/b", "nfs://h:2049/a/b"),
        ("ssh://h:/a", "ssh://h:22/a"),
        ("http://h/a", "http://h/a"),
        ("host_cdrom:/dev/sr0", "/dev/sr0"),
        ("blkdebug:/etc/rules:nbd:h:1", "nbd://h:1/"),
        ('json:{"driver":"host_cdrom","filename":"/dev/sr0"}', "/dev/sr0"),
        ("file:///a/b", "/a/b"),
        ('json:{"driver":"host_device","filename":"/dev/a"}', "/dev/a"),
        ('json:{"driver":"io_uring","path":"/a"}', "/a"),
        ('json:{"driver":"null-co"}', "null-co:"),
        ('json:{"driver":"sheepdog","vdi":"a"}', "sheepdog:a"),
        ('json:{"driver":"rbd","filename":"rbd:p/i"}', "rbd:rbd"),
        ('json:{"driver":"gluster","uri":"gluster://h/v/i"}', "gluster:v/i"),
        ('json:{"driver":"ssh","path":"/a/","host":"h","port":"23"}', "ssh://h:23/a"),
        ('json:{"driver":"nfs","path":"/a","server":{"type":"inet","host":"h"}}', "nfs://h:2049/a"),
        ('json:{"driver":"nbd","export":"","host":"h","port":"1"}', "nbd://h:1/"),
        ('json:{"driver":"raw","cache":{"direct":true},"detect-zeroes":{"a":{}},"file":{"filename":"/a"}}', "/a"),
    ],
)
def test_where_an_unusual_name_leads(name: str, place: str) -> None:
    assert [one.place for one in backing.locations(name, "/d", "raw")] == [place]


def test_each_leaf_has_its_own_format() -> None:
    data = 'json:{"driver":"qcow2","file":{"filename":"/a"},"data-file":{"filename":"/d"},"backing":{"filename":"/b"}}'
    assert backing.locations(data, "/d", None) == [Leaf("/a", "qcow2"), Leaf("/d", "raw"), Leaf("/b", None)]
    assert backing.locations("blkdebug:/rules:a", "/d", "qcow2") == [Leaf("/d/a", "qcow2")]


def test_more_places_than_an_image_has_are_refused() -> None:
    def several(count: int) -> str:
        return 'json:{"driver":"quorum","children":[' + ",".join(['{"filename":"/a"}'] * count) + "]}"

    assert len(backing.locations(several(1000), "/d", None)) == 1000
    with pytest.raises(NotAssessable):
        backing.locations(several(1001), "/d", None)
