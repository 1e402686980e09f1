"""verify-backup: the content of a copy against its image, and whether a restore would be sparse."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reclaim import __main__
from reclaim.backups.verify import verify
from reclaim.base.errors import ReclaimError
from reclaim.handles.hypervisor import Hypervisor
from tests.filesystems import MIB, run
from tests.support import disk_xml, domain_xml, node, opened


def image_of(folder: Path, name: str = "web.qcow2", *commands: str) -> Path:
    path = folder / name
    run("qemu-img", "create", "-q", "-f", "qcow2", str(path), "64M")
    for command in commands or ("write -P 7 1M 8M", "write -P 9 40M 1M"):
        run("qemu-io", "-f", "qcow2", "-c", command, str(path))
    return path


def as_it_is(image: Path, copy: Path) -> None:
    run("cp", str(image), str(copy))


def as_raw(image: Path, copy: Path) -> None:
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(image), str(copy))


def compressed(image: Path, copy: Path) -> None:
    run("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", str(image), str(copy))


def dense(image: Path, copy: Path) -> None:
    as_raw(image, thin := copy.with_name("thin"))
    run("cp", "--sparse=never", "--reflink=never", str(thin), str(copy))
    thin.unlink()


def hypervisor(folder: Path, image: Path) -> Hypervisor:
    return opened(folder, domain_xml(disk_xml(source=str(image)), running=False))


def told(folder: Path, copy: Path, image: Path) -> tuple[bool, list[str]]:
    said: list[str] = []
    return verify(str(copy), hypervisor(folder, image), None, said.append), said


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "backup").mkdir()
    return tmp_path / "backup/web.qcow2"


@pytest.mark.slow
@pytest.mark.parametrize("make", [as_it_is, compressed])
def test_a_copy_in_any_shape_is_the_same(tmp_path: Path, copy: Path, make: Callable[[Path, Path], None]) -> None:
    image = image_of(tmp_path)
    make(image, copy)
    alike, said = told(tmp_path, copy, image)
    assert alike
    assert said[0] == f"{copy}: the same content as {image} (one, vda)"
    assert "a restore that keeps holes (cp, rsync --sparse, qemu-img convert) takes" in said[1]


@pytest.mark.slow
def test_a_raw_copy_is_the_same_and_says_when_a_restore_would_inflate(tmp_path: Path, copy: Path) -> None:
    image, raw = image_of(tmp_path), copy.with_suffix(".img")
    as_raw(image, raw)
    alike, said = told(tmp_path, raw, image)
    assert (alike, said[1].endswith("takes 9.0 MiB of 64.0 MiB")) == (True, True)
    dense(image, raw)
    alike, said = told(tmp_path, raw, image)
    assert alike
    assert "would NOT be sparse" in said[1]
    assert "64.0 MiB of 64.0 MiB, and 9.0 MiB are needed" in said[1]


def test_one_byte_is_a_difference(tmp_path: Path, copy: Path) -> None:
    image = image_of(tmp_path)
    as_it_is(image, copy)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 63M 512", str(copy))
    alike, said = told(tmp_path, copy, image)
    assert not alike
    assert "NOT the content of" in said[0]


@pytest.mark.slow
def test_a_copy_of_an_overlay_is_compared_over_the_images_own_backing_file(tmp_path: Path, copy: Path) -> None:
    image_of(tmp_path, "base.qcow2")
    image = tmp_path / "web.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", str(image))
    run("qemu-io", "-f", "qcow2", "-c", "write -P 3 2M 1M", str(image))
    as_it_is(image, copy)
    # what the copy's header names lies nowhere: it is not asked
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/nowhere/base", "-F", "qcow2", str(copy))
    assert told(tmp_path, copy, image)[0]
    run("qemu-io", "-f", "qcow2", "-c", "write -P 4 2M 512", str(image))
    assert not told(tmp_path, copy, image)[0]


def refused(copy: Path, owner: Hypervisor | None, given: Path | None = None) -> str:
    with pytest.raises(ReclaimError) as caught:
        verify(str(copy), owner, str(given) if given else None, lambda _text: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_compared_is_told_in_one_line(tmp_path: Path, copy: Path) -> None:
    image = image_of(tmp_path)
    owner = hypervisor(tmp_path, image)
    assert "No such file" in refused(copy, owner)
    as_it_is(image, copy)
    os.truncate(copy, 70_000)
    assert "truncated" in refused(copy, owner)
    other = copy.with_name("unknown.img")
    other.write_bytes(b"x" * MIB)
    assert "give --image" in refused(other, owner)
    assert "give --image" in refused(other, None)
    assert "a directory, not a file" in refused(copy.parent, owner, image)
    as_it_is(image, copy)
    run("qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/nowhere/base", "-F", "qcow2", str(copy))
    assert "the image has none" in refused(copy, owner)


@pytest.mark.slow
def test_an_image_that_qemu_writes_to_is_not_compared(tmp_path: Path, copy: Path) -> None:
    image = image_of(tmp_path)
    as_it_is(image, copy)
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", str(image)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as qemu:
        assert qemu.stdout is not None
        assert qemu.stdout.read(8) == b"qemu-io>", "it has opened the image, and locked it"
        said = refused(copy, None, image)
        qemu.communicate(b"quit\n")
    assert "lock" in said


def test_a_running_guest_is_told_to_be_shut_off(tmp_path: Path, copy: Path) -> None:
    image = image_of(tmp_path)
    as_it_is(image, copy)
    owner = opened(tmp_path, domain_xml(disk_xml(source=str(image)), running=True))
    owner.is_test_driver = False
    assert "the guest one is running on it" in refused(copy, owner)
    assert "the guest one is running on it" in refused(copy, owner, image)


def test_the_command(tmp_path: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = image_of(tmp_path)
    as_it_is(image, copy)
    uri = node(tmp_path, domain_xml(disk_xml(source=str(image)), running=False))
    assert __main__.main(["verify-backup", str(copy), "--uri", uri]) == 0
    assert "the same content as" in capsys.readouterr().out
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 63M 512", str(copy))
    assert __main__.main(["verify-backup", str(copy), "--uri", uri, "--image", str(image)]) == 1
    assert __main__.main(["verify-backup", str(tmp_path / "gone"), "--uri", uri]) == 2
    assert capsys.readouterr().err.startswith("reclaim: ")
