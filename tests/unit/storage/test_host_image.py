"""A disk's image as the hypervisor's shell describes it."""

from __future__ import annotations

import base64
import os
import stat
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.storage import host_image
from reclaim.storage.host_image import HostImage, Punch, thin_bytes
from tests.images import qcow2_header
from tests.support import disk_xml, domain_xml, opened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reclaim.handles.hypervisor import Hypervisor

MIB = 1024**2


@pytest.mark.parametrize(
    ("status", "held"),
    [
        pytest.param("0 2097152 thin 524288 2097151", 524288 * 512, id="thin"),
        pytest.param("0 2097152 thin 0 -", 0, id="empty"),
        pytest.param("0 2097152 thin Fail", None, id="failed-pool"),
        pytest.param("0 2097152 linear ", None, id="thick"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_what_a_thin_volume_holds(status: str, held: int | None) -> None:
    assert thin_bytes(status) == held


GOOD = ("regular file", "1000", "8", "512", "fd00", "0", "0")


def looked_at(folder: Path, stat: str) -> host_image.HostImage:
    owner = opened(folder, domain_xml(disk_xml()))
    printed = "".join(
        f"{name} {base64.b64encode(text.encode()).decode()}\n"
        for name, text in (("stat", stat), ("real", "/x"), ("head", ""))
    )

    class Shell:
        def run(self, *_arguments: str) -> Any:
            return type("Result", (), {"rc": 0, "stdout": printed, "stderr": ""})()

    owner.shell = Shell()
    return host_image.look(owner, "/x")


@pytest.mark.parametrize("field", range(1, 7))
@pytest.mark.parametrize(
    "odd", ["1a00", "", "-1", "9" * 20, "9" * 5000, "٣", "²", "1e3", "0x10", " 8", "8\n8", "ffffffffffff"]
)
def test_odd_numbers_of_stat_are_told_in_one_line(tmp_path: Path, field: int, odd: str) -> None:
    fields = [*GOOD]
    fields[field] = odd
    try:
        looked_at(tmp_path, "|".join(fields))
    except ProbeError as exc:
        assert str(exc) == "/x: the output of stat cannot be parsed"  # noqa: PT017
    else:
        assert odd in ("1a00", "ffffffffffff", "1e3")
        assert field >= 4


def test_what_stat_says_is_read_as_it_writes_it(tmp_path: Path) -> None:
    found = looked_at(tmp_path, "|".join(GOOD))
    assert (found.length, found.allocated, found.device) == (1000, 4096, "fd00")


# The hypervisor's shell -----------------------------------------------------------------------


class Shell:
    """A shell that prints the given answers, or fails with *status*."""

    def __init__(self, answers: Mapping[str, str | bytes] | None = None, status: int = 0, stderr: str = "") -> None:
        lines = []
        for name, text in (answers or {}).items():
            raw = text.encode() if isinstance(text, str) else text
            lines.append(f"{name} {base64.b64encode(raw).decode()}\n")
        self.outcome = {"rc": status, "stdout": "".join(lines), "stderr": stderr}
        self.asked: list[tuple[str, ...]] = []

    def run(self, *arguments: str) -> Any:
        self.asked.append(arguments)
        return type("Result", (), self.outcome)()


def answering(folder: Path, shell: Shell) -> Hypervisor:
    owner = opened(folder, domain_xml(disk_xml()))
    owner.shell = shell
    return owner


def here(folder: Path) -> Hypervisor:
    """A hypervisor whose shell is that of this machine."""
    return opened(folder, domain_xml(disk_xml()))


def test_a_file_of_this_machine(tmp_path: Path) -> None:
    path, link = tmp_path / "a b.img", tmp_path / "link"
    path.write_bytes(b"head" + bytes(8188))
    link.symlink_to(path)
    status = path.stat()
    found = host_image.look(here(tmp_path), str(link))
    assert (found.path, found.real, found.is_device) == (str(link), str(path), False)
    assert (found.length, found.allocated) == (8192, status.st_blocks * 512)
    assert found.head == b"head" + bytes(108)
    assert found.folder == str(tmp_path)
    assert found.filesystem
    assert found.device == f"{status.st_dev:x}"


def test_a_file_that_is_not_there_is_no_failed_look(tmp_path: Path) -> None:
    with pytest.raises(NotAssessable, match=r"gone\.img"):
        host_image.look(here(tmp_path), str(tmp_path / "gone.img"))


@pytest.mark.parametrize("kind", ["directory", "fifo"])
def test_what_is_no_image_is_named_by_its_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    path.mkdir() if kind == "directory" else os.mkfifo(path)
    with pytest.raises(NotAssessable, match=f"{path}: a {kind}"):
        host_image.look(here(tmp_path), str(path))


def test_a_path_below_a_file_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ProbeError, match="Not a directory"):
        host_image.look(here(tmp_path), str(tmp_path / "file" / "a.img"))


def test_a_refusal_is_one_line_and_cut(tmp_path: Path) -> None:
    with pytest.raises(ProbeError) as caught:
        host_image.look(answering(tmp_path, Shell({"error": "a\nb " + "x" * 1000})), "/x")
    assert str(caught.value).startswith("a b x")
    assert len(str(caught.value)) == 300
    with pytest.raises(ProbeError, match="/x: stat failed"):
        host_image.look(answering(tmp_path, Shell({"error": " "})), "/x")


DEVICE: dict[str, str | bytes] = {
    "stat": "block special file|0|0|512|6|fd|5",
    "sectors": "2048\n",
    "max": "1073741824\n",
    "granularity": "65536\n",
    "mapper": "LVM-aB1-x\n",
    "table": "0 1024 thin 253:2 1\n1024 1024 thin 253:2 1\n",
    "below": "0 4096 linear 8:1 2048\nodd\n",
    "status": "0 2048 thin 512 1023\n",
    "head": b"QFI\xfb",
}


def test_a_device_is_described_by_sysfs_and_dmsetup(tmp_path: Path) -> None:
    assert host_image.look(answering(tmp_path, Shell(DEVICE)), "/dev/vg/lv") == HostImage(
        "/dev/vg/lv",
        True,
        "fd:5",
        MIB,
        512 * 512,
        discard_max=1 << 30,
        discard_granularity=65_536,
        targets=("thin", "thin"),
        below=("linear",),
        mapper="LVM",
        head=b"QFI\xfb",
    )


def test_a_device_of_which_nothing_is_told_is_described_all_the_same(tmp_path: Path) -> None:
    found = host_image.look(answering(tmp_path, Shell({"stat": DEVICE["stat"], "max": "-1", "sectors": "²"})), "/dev/x")
    assert (found.length, found.allocated, found.inside) == (0, None, None)
    assert (found.discard_max, found.discard_granularity, found.mapper, found.targets) == (None, None, "", ())


@pytest.mark.skipif(os.geteuid() != 0, reason="not root")
def test_a_device_node_of_this_machine(tmp_path: Path) -> None:
    path = tmp_path / "loop"
    os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(0xFFF, 0xFFF))
    found = host_image.look(here(tmp_path), str(path))
    assert (found.is_device, found.device, found.head) == (True, "fff:fff", b"")


@pytest.mark.parametrize(
    ("allocated", "length", "inside"), [(10, 20, 10), (30, 20, 20), (20, 20, 20), (None, 20, None)]
)
def test_what_lies_behind_the_end_of_a_file_is_not_inside(
    allocated: int | None, length: int, inside: int | None
) -> None:
    file = HostImage("/i/a", False, "fe00", length, allocated)
    assert file.inside == inside
    assert replace(file, is_device=True).inside == allocated


def test_the_folder_of_a_path_that_was_not_resolved() -> None:
    assert HostImage("/i/a", False, "fe00", 1, 1).folder == "/i"


@pytest.mark.parametrize("status", [124, 137])
def test_storage_that_does_not_answer_is_told(tmp_path: Path, status: int) -> None:
    with pytest.raises(ProbeError, match="/x: no answer within 60 s"):
        host_image.look(answering(tmp_path, Shell(status=status)), "/x")


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("sh: 1: first\n\n sh: 2: not found \n", "/x: sh: 1: first; sh: 2: not found"),
        ("", "/x: status 1"),
        (" \n", "/x: status 1"),
        ("x" * 1000, "/x: " + "x" * 200),
    ],
)
def test_a_script_that_fails_is_told_in_its_last_words(tmp_path: Path, stderr: str, words: str) -> None:
    with pytest.raises(ProbeError) as caught:
        host_image.look(answering(tmp_path, Shell(status=1, stderr=stderr)), "/x")
    assert str(caught.value) == words


def test_the_path_is_never_part_of_the_script(tmp_path: Path) -> None:
    shell = Shell({"stat": "|".join(GOOD)})
    host_image.look(answering(tmp_path, shell), "/a'; rm -rf $HOME")
    ((command, script, path),) = shell.asked
    assert " /bin/sh -c %s reclaim %s" in command
    assert path == "/a'; rm -rf $HOME"
    assert "rm -rf $HOME" not in script


@pytest.mark.parametrize("output", ["stat !!\n", "stat Y2F0Cg\n", "a b c\n"])
def test_answers_of_another_shape_are_refused(output: str) -> None:
    with pytest.raises(ProbeError, match="the problem"):
        host_image.answers(output, "the problem")


def test_answers_are_names_and_base64() -> None:
    assert host_image.answers("a Yg==\nempty \nbare\n", "") == {"a": b"b", "empty": b"", "bare": b""}


# Headers --------------------------------------------------------------------------------------


def looked(folder: Path, content: bytes, length: int = MIB) -> tuple[Hypervisor, HostImage]:
    """An image that begins with *content*, as this machine's shell sees it."""
    path = folder / "a.qcow2"
    path.write_bytes(content)
    os.truncate(path, length)
    owner = here(folder)
    return owner, host_image.look(owner, str(path))


def test_a_header_is_read_with_what_it_points_at(tmp_path: Path) -> None:
    name = b"/srv/base.qcow2"
    content = qcow2_header(backing_at=5000, backing_size=len(name)).ljust(5000, b"\0") + name
    owner, image = looked(tmp_path, content)
    assert host_image.header(owner, image).backing == "/srv/base.qcow2"


def test_what_lies_in_the_first_bytes_is_not_asked_for_again(tmp_path: Path) -> None:
    shell = Shell()
    owner = answering(tmp_path, shell)
    image = HostImage("/x", False, "fe00", MIB, MIB, head=qcow2_header(backing_at=104, backing_size=8) + b"base.img")
    assert host_image.header(owner, image).backing == "base.img"
    assert shell.asked == []


def test_the_tables_of_a_file_lie_in_it_and_those_of_a_device_are_not_compared(tmp_path: Path) -> None:
    owner = answering(tmp_path, Shell())
    image = HostImage("/x", False, "fe00", 100_000, MIB, head=qcow2_header())
    with pytest.raises(NotAssessable, match="truncated"):
        host_image.header(owner, image)
    assert host_image.header(owner, replace(image, is_device=True)).virtual == 64 * MIB


@pytest.mark.parametrize(
    ("head", "words"), [(b"", "cannot be read"), (b"QFI", "defined as qcow2"), (b"x" * 112, "qcow2")]
)
def test_what_does_not_begin_like_a_qcow2_is_none(tmp_path: Path, head: bytes, words: str) -> None:
    image = HostImage("/x", False, "fe00", MIB, MIB, head=head)
    with pytest.raises(NotAssessable, match=f"/x: .*{words}"):
        host_image.header(answering(tmp_path, Shell()), image)


def test_a_few_snapshots_are_named(tmp_path: Path) -> None:
    entry = struct.pack(">QIHHIIQII", 0, 1, 1, 3, 0, 0, 0, 0, 0) + b"1day"
    entry += bytes(-len(entry) % 8)
    content = qcow2_header(snapshots=7, snapshots_at=262_144).ljust(262_144, b"\0") + entry * 7
    owner, image = looked(tmp_path, content)
    head = host_image.header(owner, image)
    assert host_image.snapshots(owner, image, head) == ["day"] * 5
    shell = Shell()
    assert host_image.snapshots(answering(tmp_path, shell), image, replace(head, snapshots=0)) == []
    assert shell.asked == []


def test_bytes_are_read_from_their_place_to_the_end_of_the_file(tmp_path: Path) -> None:
    owner, image = looked(tmp_path, b"0123456789", 10)
    assert host_image.read_bytes(owner, image.path, 3, 4) == b"3456"
    assert host_image.read_bytes(owner, image.path, 0, 4) == b"0123"
    assert host_image.read_bytes(owner, image.path, 8, 4) == b"89"
    assert host_image.read_bytes(owner, image.path, 99, 4) == b""
    for offset in (-1, 2**62):
        with pytest.raises(NotAssessable, match="behind any file"):
            host_image.read_bytes(owner, image.path, offset, 4)


# Holes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("punch", "frees", "frees_pieces"),
    [
        (Punch(MIB, MIB - 65_536, 0), True, True),
        (Punch(MIB, MIB - 32_768, MIB // 2), True, True),
        (Punch(MIB, MIB, 0), True, False),
        (Punch(MIB, MIB - 65_536, MIB // 2 + 512), False, False),
        (Punch(2 * MIB, 2 * MIB, MIB), True, False),
        (Punch(MIB, 0, 0, "fallocate says no"), False, False),
    ],
)
def test_whether_blocks_came_back(punch: Punch, *, frees: bool, frees_pieces: bool) -> None:
    assert (punch.frees, punch.frees_pieces) == (frees, frees_pieces)


def image_in(folder: str, device: str = "fe00") -> HostImage:
    return HostImage(f"{folder}/a.img", False, device, 1, 1)


def test_holes_are_tried_on_this_machine_and_nothing_is_left(tmp_path: Path) -> None:
    place = tmp_path / "images"
    place.mkdir()
    found = host_image.punched(here(tmp_path), image_in(str(place)))
    assert found.written >= MIB
    assert found.frees
    assert list(place.iterdir()) == []


HALF = str(MIB // 512)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        pytest.param({"unseen": "fallocate is not installed"}, "fallocate is not installed", id="no-fallocate"),
        pytest.param({"written": HALF, "refused": "No space left on device"}, "No space left", id="another-error"),
        pytest.param({"written": "8", "piece": "8", "rest": "0"}, "does not count blocks", id="no-blocks"),
        pytest.param({"written": HALF, "rest": "0"}, "does not count blocks", id="no-piece"),
        pytest.param({"written": HALF, "piece": "0", "rest": "x"}, "does not count blocks", id="no-rest"),
        pytest.param({}, "does not count blocks", id="nothing"),
    ],
)
def test_a_filesystem_that_cannot_be_tried_is_no_answer(tmp_path: Path, answers: dict[str, str], words: str) -> None:
    shell = Shell(answers)
    owner = answering(tmp_path, shell)
    for _ in range(2):
        with pytest.raises(NotAssessable, match=f"/srv: .*{words}"):
            host_image.punched(owner, image_in("/srv"))
    assert len(shell.asked) == 1


def test_a_filesystem_without_holes_is_an_answer(tmp_path: Path) -> None:
    for words in ("Operation not supported", "unsupported"):
        shell = Shell({"written": HALF, "refused": words})
        found = host_image.punched(answering(tmp_path, shell), image_in("/srv"))
        assert (found.written, found.frees) == (MIB, False)
        assert words in found.refused


def test_each_filesystem_is_tried_once(tmp_path: Path) -> None:
    shell = Shell({"written": HALF, "piece": "1920", "rest": "8"})
    owner = answering(tmp_path, shell)
    for folder, device in (("/a", "1"), ("/b", "1"), ("/c", "2")):
        assert host_image.punched(owner, image_in(folder, device)) == Punch(MIB, 1920 * 512, 4096)
    assert [arguments[2] for arguments in shell.asked] == ["/a", "/c"]


def test_a_shell_that_fails_makes_it_not_assessable(tmp_path: Path) -> None:
    with pytest.raises(NotAssessable, match=r"/srv: .*Read-only"):
        host_image.punched(answering(tmp_path, Shell(status=1, stderr="sh: Read-only")), image_in("/srv"))
