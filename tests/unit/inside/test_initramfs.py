"""The commands that build an initramfs: an old image stays until the new one is whole."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from reclaim.inside.initramfs import rebuild
from tests.support import Inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("status", "left"), [pytest.param(0, "new", id="built"), pytest.param(1, "old", id="builder-fails")]
)
def test_the_command_leaves_a_whole_image_and_nothing_else(tmp_path: Path, status: int, left: str) -> None:
    """Run for real, with a dracut of our own that writes half an image before it fails."""
    image = tmp_path / "initramfs-6.1.img"
    image.write_text("old")
    tool = tmp_path / "dracut"
    tool.write_text(f'#!/bin/sh\n[ "$1 $3" = "--force 6.1" ] || exit 9\nprintf new >"$2"\nexit {status}\n')
    tool.chmod(0o755)
    inside = Inside(kernels=f"kernel 6.1\npath {image}\nstamp 1:3:1\n", tools=("dracut",))
    command = rebuild(inside.facts())
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": path}, check=False)
    assert (done.returncode == 0) is (status == 0)
    assert image.read_text() == left
    assert sorted(one.name for one in tmp_path.iterdir()) == ["dracut", "initramfs-6.1.img"]


@pytest.fixture
def tiny_boot(tmp_path: Path) -> Iterator[Path]:
    """A /boot of its own, with an initramfs in it and next to no room."""
    boot = tmp_path / "boot"
    boot.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(boot)], check=False)
    if mounted.returncode != 0:
        pytest.skip("nothing may be mounted here")
    (boot / "initramfs-6.1.img").write_text("old")
    yield boot
    subprocess.run(["umount", str(boot)], check=True)


def test_a_full_boot_keeps_its_old_image_and_nothing_of_the_new_one(tmp_path: Path, tiny_boot: Path) -> None:
    """The room is judged before; here somebody took it in between. cp ends as dracut's does: half an image."""
    tool = tmp_path / "dracut"
    tool.write_text('#!/bin/sh\ncp /usr/bin/env "$2"; head -c 200000 /dev/urandom >>"$2"\n')
    tool.chmod(0o755)
    image = tiny_boot / "initramfs-6.1.img"
    inside = Inside(kernels=f"kernel 6.1\npath {image}\nstamp 1:3:1\n", tools=("dracut",))
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["/bin/sh", "-c", rebuild(inside.facts())], env={"PATH": path}, check=False)
    assert done.returncode != 0
    assert {one.name: one.read_text() for one in tiny_boot.iterdir()} == {"initramfs-6.1.img": "old"}
