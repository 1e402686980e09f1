"""Files as block nodes for qemu-img."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from reclaim.storage import block_node
from tests.filesystems import run


def described(node: dict[str, object]) -> dict[str, object]:
    """The description of a block node by qemu-img itself."""
    asked = ["qemu-img", "info", "--output=json", block_node.filename(node)]
    output = subprocess.run(asked, capture_output=True, check=True).stdout
    return dict(json.loads(output))


@pytest.mark.parametrize("kind", ["raw", "qcow2"])
def test_the_format_is_the_one_that_is_given(tmp_path: Path, kind: str) -> None:
    image = tmp_path / "web.img"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M")
    assert described(block_node.of_file(str(image), kind))["format"] == kind


def test_a_raw_image_has_no_backing_file() -> None:
    assert "backing" not in block_node.of_file("/images/web.img", "raw", {"driver": "raw"})


def test_a_backing_file_that_the_header_names_is_not_opened(tmp_path: Path) -> None:
    image = tmp_path / "web.qcow2"
    gone = tmp_path / "gone.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(gone), "8M")
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(gone), str(image))
    gone.unlink()
    name = block_node.filename(block_node.of_file(str(image), "qcow2"))
    run("qemu-img", "map", name)
    with pytest.raises(subprocess.CalledProcessError):
        run("qemu-img", "map", str(image))


def test_the_backing_file_is_the_one_that_is_given(tmp_path: Path) -> None:
    image, base = tmp_path / "web.qcow2", tmp_path / "base.img"
    run("qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M")
    base.write_bytes(b"x" * 65536)
    node = block_node.of_file(str(image), "qcow2", block_node.of_file(str(base), "raw"))
    run("qemu-img", "compare", block_node.filename(node), str(base))
