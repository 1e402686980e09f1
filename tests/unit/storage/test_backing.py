"""The files that headers name, and the places that such names mean."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import NotAssessable
from reclaim.storage import backing
from reclaim.storage.backing import Names

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
