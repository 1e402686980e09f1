"""The blocks of files: data, holes, zeros, extents, and giving them back."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reclaim.base.errors import ChangeFailed, NotAssessable, ProbeError
from reclaim.files import holes
from reclaim.files.beneath import File
from reclaim.files.holes import BLOCK, Extent, Identity, Overlap, Scan, Span
from tests.copies import SIZE, dense, write
from tests.filesystems import MAKE, MIB, allocated, mounted, require, run
from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(params=MAKE, scope="module")
def filesystem(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A filesystem of its own, one of each kind."""
    require(request.param)
    with mounted(request.param, tmp_path_factory.mktemp("filesystem")) as folder:
        yield folder


@pytest.fixture
def place(filesystem: Path) -> Iterator[Path]:
    """An empty folder on it."""
    folder = Path(tempfile.mkdtemp(dir=filesystem))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["filesystem"])


@pytest.mark.slow
def test_no_permission(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("not root")
    path = dense(tmp_path / "web.img")
    path.chmod(0)
    script = f"""
import os, sys
from reclaim.files import holes
from reclaim.base.errors import ProbeError
# imported before: another user may not read a checkout below /root
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    holes.scan({str(path)!r})
except ProbeError as exc:
    sys.exit(str(exc))
"""
    for one in (tmp_path, *tmp_path.parents[:2]):
        one.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == f"{path}: Permission denied"


def test_a_file_that_is_truncated_while_it_is_read(tmp_path: Path) -> None:
    path = dense(tmp_path / "web.img")
    with holes.opened(str(path)) as descriptor:
        spans = holes.zero_spans(descriptor, SIZE * MIB, lambda _count: os.truncate(path, 2 * MIB))
        with pytest.raises(ProbeError, match="truncated while it was read"):
            list(spans)


@pytest.mark.slow
def test_long_reads_tell_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holes, "_PROGRESS_SECONDS", 0)
    said: list[str] = []
    path = write(tmp_path / "web.img", (0, os.urandom(MIB) * 200), size=200 * MIB)
    holes.scan(str(path), said.append)
    assert said == [f"{path}: read {done}.0 MiB of at most 200.0 MiB" for done in (64, 128, 192)]


def test_whether_holes_can_be_punched_is_asked_without_a_trace(place: Path) -> None:
    path = write(place / "web.img", (0, os.urandom(4096)))
    before = path.stat(), place.stat()
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    assert holes.can_punch(folder)
    os.close(folder)
    assert (path.stat(), place.stat()) == before


def test_identity_is_what_stat_says(tmp_path: Path) -> None:
    path = write(tmp_path / "file", size=5)
    status = path.stat()
    assert Identity.of(status) == Identity(status.st_dev, status.st_ino, 5, status.st_mtime_ns)
    with pytest.raises(NotAssessable):
        holes.scan(str(tmp_path))


# Spans ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spans", "asked", "parts"),
    [
        pytest.param([(0, 10)], [(5, 15)], [(5, 10)], id="partly"),
        pytest.param([(0, 10), (20, 30)], [(5, 25)], [(5, 10), (20, 25)], id="across-a-gap"),
        pytest.param([(0, 30)], [(5, 10), (12, 20), (25, 40)], [(5, 10), (12, 20), (25, 30)], id="one-for-several"),
        pytest.param([(0, 10), (10, 20)], [(0, 10), (10, 20)], [(0, 10), (10, 20)], id="side-by-side"),
        pytest.param([(5, 6)], [(0, 5), (6, 9)], [], id="beside"),
        pytest.param([], [(0, 5)], [], id="nothing"),
    ],
)
def test_the_overlap_of_spans_in_order(spans: list[Span], asked: list[Span], parts: list[Span]) -> None:
    overlap = Overlap(iter(spans))
    assert [part for start, end in asked for part in overlap.parts(start, end)] == parts


@pytest.mark.parametrize(
    ("scan", "excess"),
    [((100, 60, 30, 10, 0, 0), 40), ((100, 60, 30, 10, 0, 25), 15), ((50, 60, 0, 0, 0, 0), 0)],
)
def test_the_excess_is_never_below_nothing(scan: tuple[int, ...], excess: int) -> None:
    identity = Identity(1, 2, 3, 4)
    assert Scan(identity, *scan).excess == excess


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (0, (False, False, False)),
        (0x0800, (True, False, False)),
        (0x0008, (False, True, False)),
        (0x2001, (False, False, True)),
    ],
)
def test_the_flags_of_an_extent(flags: int, told: tuple[bool, bool, bool]) -> None:
    extent = Extent(0, 1, 2, flags)
    assert (extent.is_unwritten, extent.is_encoded, extent.is_shared) == told


# Opening --------------------------------------------------------------------------------------


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(NotAssessable):
            holes.open_file(str(path))


@pytest.mark.parametrize("path", ["/no-folder/file", "a\0b"])
def test_a_name_that_leads_nowhere_is_a_probe_error(path: str) -> None:
    with pytest.raises(ProbeError):
        holes.open_file(path)


def test_a_path_may_lead_through_links_and_a_file_through_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    with holes.opened(str(tmp_path / "link")) as descriptor:
        assert os.read(descriptor, 9) == b"x"
    with holes.opened(File.at(str(tmp_path / "file")), os.O_RDWR) as descriptor:
        assert os.write(descriptor, b"y") == 1


def test_an_error_of_the_system_is_named_and_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for given in (str(path), File.at(str(path))):
        with pytest.raises(ProbeError, match=f"{path}: Input/output error"), holes.opened(given) as descriptor:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


# On real filesystems --------------------------------------------------------------------------


def spans(path: Path) -> tuple[list[Span], list[Span], list[Span]]:
    """Its data, its holes and its zeros."""
    with holes.opened(str(path)) as descriptor:
        end = path.stat().st_size
        return (
            list(holes.data_spans(descriptor, end)),
            list(holes.hole_spans(descriptor, end)),
            list(holes.zero_spans(descriptor, end)),
        )


def test_data_holes_and_zeros_are_told_apart(place: Path) -> None:
    path = write(place / "a", (MIB, b"x" * MIB), (2 * MIB, bytes(MIB)), (5 * MIB, b"y" * BLOCK), size=6 * MIB)
    data, gaps, zeros = spans(path)
    assert data == [(MIB, 3 * MIB), (5 * MIB, 5 * MIB + BLOCK)]
    assert gaps == [(0, MIB), (3 * MIB, 5 * MIB), (5 * MIB + BLOCK, 6 * MIB)]
    assert zeros == [(2 * MIB, 3 * MIB)]


def test_a_file_without_data_is_one_hole(place: Path) -> None:
    assert spans(write(place / "a", size=MIB)) == ([], [(0, MIB)], [])
    assert spans(write(place / "b", size=0)) == ([], [], [])


def test_data_up_to_an_end_within_it(place: Path) -> None:
    path = write(place / "a", (0, b"x" * MIB), size=2 * MIB)
    with holes.opened(str(path)) as descriptor:
        assert list(holes.data_spans(descriptor, 5000)) == [(0, 5000)]
        assert list(holes.hole_spans(descriptor, 5000)) == []


@pytest.mark.parametrize(
    ("content", "zeros"),
    [
        pytest.param(bytes(BLOCK), [(0, BLOCK)], id="one-block"),
        pytest.param(bytes(BLOCK - 1), [(0, BLOCK - 1)], id="the-last-is-no-whole-block"),
        pytest.param(b"x" + bytes(2 * BLOCK), [(BLOCK, 2 * BLOCK + 1)], id="whole-blocks-alone"),
        pytest.param(bytes(BLOCK - 1) + b"x" + bytes(BLOCK), [(BLOCK, 2 * BLOCK)], id="one-byte-at-the-end"),
        pytest.param(b"\0x" * BLOCK, [], id="a-zero-first"),
        pytest.param((b"x" * BLOCK + bytes(BLOCK)) * 2, [(BLOCK, 2 * BLOCK), (3 * BLOCK, 4 * BLOCK)], id="in-turn"),
        pytest.param(bytes(3 * MIB), [(0, 3 * MIB)], id="over-chunks"),
        pytest.param(
            b"x" * (MIB - BLOCK) + bytes(2 * BLOCK) + b"x" * BLOCK, [(MIB - BLOCK, MIB + BLOCK)], id="over-an-edge"
        ),
        pytest.param(bytes(MIB) + b"x" * MIB + bytes(BLOCK), [(0, MIB), (2 * MIB, 2 * MIB + BLOCK)], id="apart"),
    ],
)
def test_runs_of_whole_zero_blocks(tmp_path: Path, content: bytes, zeros: list[Span]) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    counts: list[int] = []
    with holes.opened(str(path)) as descriptor:
        assert list(holes.zero_spans(descriptor, len(content), counts.append)) == zeros
    assert sum(counts) == len(content)


def test_a_scan_counts_what_can_come_back(place: Path) -> None:
    path = write(place / "a", (0, os.urandom(2 * MIB)), (4 * MIB, bytes(MIB)), size=8 * MIB)
    run("fallocate", "--offset", "6M", "--length", "1M", str(path))
    held = allocated(path)
    found = holes.scan(str(path))
    assert found.identity == Identity.of(path.stat())
    assert found.allocated == held
    assert found.needed == 2 * MIB
    assert found.zeros == MIB
    assert found.unwritten >= MIB
    assert found.pinned == 0
    assert MIB <= found.excess <= 2 * MIB
    assert found.excess + found.packed <= 2 * MIB


def test_what_btrfs_has_compressed_away_is_no_excess(tmp_path: Path) -> None:
    require("btrfs-compressed")
    with mounted("btrfs-compressed", tmp_path) as folder:
        path = write(folder / "a", (0, os.urandom(MIB)), (MIB, bytes(4 * MIB)), size=8 * MIB)
        found = holes.scan(str(path))
    assert (found.zeros, found.packed, found.excess) == (4 * MIB, 4 * MIB, 0)


def test_a_file_that_changes_while_it_is_scanned_is_no_answer(tmp_path: Path) -> None:
    path = write(tmp_path / "a", (0, b"x" * BLOCK), size=MIB)
    with holes.opened(str(path)) as descriptor:
        with path.open("r+b") as stream, pytest.MonkeyPatch.context() as patch:
            real = os.posix_fadvise

            def grow(*arguments: int) -> None:
                real(*arguments)
                stream.truncate(2 * MIB)

            patch.setattr(os, "posix_fadvise", grow)
            with pytest.raises(ProbeError, match="web: it changed while it was read"):
                holes.scan_open(descriptor, "web")
        with path.open("r+b") as stream, pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "preadv", lambda *_arguments: 1)
            with pytest.raises(ProbeError, match="web: it was truncated"):
                holes.scan_open(descriptor, "web")


def test_a_scan_of_a_file_by_its_folder_is_called_by_its_path(tmp_path: Path) -> None:
    path = write(tmp_path / "a", (0, b"x"), size=1)
    file = File.at(str(path))
    assert holes.scan(file) == holes.scan(str(path))


def _punched_out(path: Path) -> tuple[int, list[int]]:
    """Punch *path*; the bytes read and the looks whether it is still ours."""
    counts: list[int] = []
    looks: list[int] = []
    with holes.opened(str(path), os.O_RDWR) as descriptor:
        holes.punch_out(descriptor, lambda: looks.append(1), counts.append)
    return sum(counts), looks


def test_what_is_not_needed_is_punched_out_and_nothing_else(place: Path) -> None:
    head, end = os.urandom(2 * MIB), 8 * MIB + 100
    path = write(place / "a", (0, head), (4 * MIB, bytes(MIB)), (8 * MIB, bytes(100)), size=end)
    run("fallocate", "--offset", "6M", "--length", "1M", str(path))
    run("fallocate", "--keep-size", "--offset", "9M", "--length", "1M", str(path))
    os.utime(path, ns=(1_500_000_000_123_456_789, 1_400_000_000_987_654_321))
    read, looks = _punched_out(path)
    after = path.stat()
    assert read == 3 * MIB + 100
    assert len(looks) >= 3
    assert (after.st_size, after.st_mtime_ns) == (end, 1_400_000_000_987_654_321)
    assert holes.scan(str(path)).unwritten < MIB
    assert allocated(path) < 3 * MIB
    assert spans(path) == ([(0, 2 * MIB)], [(2 * MIB, end)], [])
    assert path.read_bytes() == head + bytes(end - 2 * MIB)


def test_who_waits_for_the_file_stops_it_and_its_times_stay(tmp_path: Path) -> None:
    path = write(tmp_path / "a", (0, bytes(MIB)), (2 * MIB, b"x"), size=2 * MIB + 1)
    os.utime(path, ns=(1_500_000_000_000_000_000, 1_400_000_000_000_000_000))
    content = path.read_bytes()
    held = allocated(path)

    def waits() -> None:
        raise ChangeFailed("somebody waits")

    with holes.opened(str(path), os.O_RDWR) as descriptor, pytest.raises(ChangeFailed):
        holes.punch_out(descriptor, waits, lambda _count: None)
    assert (path.stat().st_mtime_ns, allocated(path)) == (1_400_000_000_000_000_000, held)
    assert path.read_bytes() == content


def test_a_punched_piece_reads_as_zeros_and_the_size_stays(place: Path) -> None:
    path = write(place / "a", (0, os.urandom(MIB)), size=MIB)
    content = path.read_bytes()
    with path.open("r+b") as stream:
        holes.punch(stream.fileno(), 2 * BLOCK, 64 * BLOCK)
    assert path.read_bytes() == content[: 2 * BLOCK] + bytes(62 * BLOCK) + content[64 * BLOCK :]
    assert allocated(path) <= MIB - 62 * BLOCK + BLOCK
    with path.open("rb") as stream, pytest.raises(OSError, match="Bad file descriptor"):
        holes.punch(stream.fileno(), 0, BLOCK)


def test_free_bytes_follow_what_is_freed(place: Path) -> None:
    path = write(place / "a", (0, os.urandom(16 * MIB)), size=16 * MIB)
    folder = os.open(place, os.O_RDONLY)
    try:
        before = holes.free_bytes(folder)
        path.write_bytes(b"")  # an unlink alone is carried out in the background by XFS
        os.sync()
        assert holes.free_bytes(folder) - before >= 12 * MIB
    finally:
        os.close(folder)


def test_a_btrfs_is_known(place: Path, kind: str) -> None:
    folder = os.open(place, os.O_RDONLY)
    try:
        assert holes.is_on_btrfs(folder) is kind.startswith("btrfs")
    finally:
        os.close(folder)


@pytest.mark.parametrize(
    "ask", [holes.free_bytes, holes.is_on_btrfs, lambda descriptor: holes.punch(descriptor, 0, BLOCK)]
)
def test_a_closed_descriptor_is_an_error(ask: Callable[[int], object]) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        ask(-1)


def test_extents_are_listed_where_the_filesystem_lists_them(place: Path, kind: str) -> None:
    path = write(place / "a", (MIB, os.urandom(MIB)), size=4 * MIB)
    with holes.opened(str(path)) as descriptor:
        if kind == "tmpfs":
            assert not holes.has_extents(descriptor)
            assert not holes.shares_any(descriptor)
            assert list(holes.shared_extents(descriptor, [(0, 4 * MIB)])) == []
            return
        assert holes.has_extents(descriptor)
        found = list(holes.extents(descriptor))
    assert (found[0].start, found[-1].end) == (MIB, 2 * MIB)
    assert not any(extent.is_shared or extent.is_unwritten for extent in found)


def test_more_extents_than_are_asked_for_at_once_are_listed(tmp_path: Path) -> None:
    require("ext4")
    with mounted("ext4", tmp_path) as folder:
        path = write(folder / "a", *((number * 2 * BLOCK, b"x") for number in range(1300)), size=12 * MIB)
        with holes.opened(str(path)) as descriptor:
            found = list(holes.extents(descriptor))
    assert [extent.start for extent in found] == [number * 2 * BLOCK for number in range(1300)]


def test_an_error_of_the_disk_is_no_filesystem_without_extents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "ioctl", fail)
    with (tmp_path / "a").open("wb") as stream, pytest.raises(OSError, match="Input/output error"):
        holes.has_extents(stream.fileno())


def test_what_a_reflink_shares_is_told_and_not_punched(btrfs: Path) -> None:
    path = write(btrfs / "a", (0, bytes(MIB)), (2 * MIB, bytes(MIB)), (4 * MIB, b"x" * MIB), size=8 * MIB)
    run("cp", "--reflink=always", str(path), str(btrfs / "b"))
    with path.open("r+b") as stream:  # no longer shared
        stream.seek(2 * MIB)
        stream.write(bytes(MIB))
    os.sync()
    with holes.opened(str(path)) as descriptor:
        assert holes.shares_any(descriptor)
        shared = list(holes.shared_extents(descriptor, [(0, 4096), (2 * MIB, 3 * MIB)]))
        assert [(extent.start, extent.end) for extent in shared] == [(0, MIB)]
        assert [extent.start for extent in holes.shared_extents(descriptor, [(4 * MIB, 8 * MIB)])] == [4 * MIB]
        assert list(holes.shared_extents(descriptor, [])) == []
    found = holes.scan(str(path))
    assert (found.zeros, found.pinned) == (2 * MIB, MIB)
    _punched_out(path)
    assert spans(path)[0] == [(0, MIB), (4 * MIB, 5 * MIB)]


def test_a_filesystem_that_punches_no_holes_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        for number, expected in ((errno.EOPNOTSUPP, False), (errno.ENOSYS, False), (0, True)):
            _refuse(monkeypatch, number)
            assert holes.can_punch(folder) is expected
        _refuse(monkeypatch, errno.EIO)
        with pytest.raises(OSError, match="Input/output error"):
            holes.can_punch(folder)
    finally:
        os.close(folder)
    assert list(tmp_path.iterdir()) == []


def _refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """fallocate(2) answers with the error *number*, or works (0)."""

    class Library:
        @staticmethod
        def fallocate(*_arguments: object) -> int:
            return -1 if number else 0

    monkeypatch.setattr(holes, "_libc", Library())
    monkeypatch.setattr(ctypes, "get_errno", lambda: number)


# Being alone with a file ----------------------------------------------------------------------


@pytest.fixture
def opener(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has `web.img` open for writing."""
    (tmp_path / "web.img").write_bytes(b"x")
    script = "exec 3<>web.img; echo ready; read line; exec 3<&-; echo closed; read line"
    with subprocess.Popen(["/bin/sh", "-c", script], cwd=tmp_path, stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def test_a_file_that_a_process_has_open_is_not_ours_alone(tmp_path: Path, opener: subprocess.Popen[bytes]) -> None:
    path = str(tmp_path / "web.img")
    with holes.opened(path, os.O_RDWR) as descriptor:
        assert holes.openers(descriptor) == [f"sh ({opener.pid})"]
        with (
            pytest.raises(ChangeFailed, match=rf"web\.img: it is open in sh \({opener.pid}\)"),
            holes.alone_with(descriptor, path),
        ):
            pass
    with holes.opened(path) as descriptor, pytest.MonkeyPatch.context() as patch:
        patch.setattr(holes, "others_may_write", lambda _status: True)
        with pytest.raises(ProbeError, match="it is open in sh"), holes.unwritten(descriptor, path):
            pass
    assert opener.stdin is not None
    assert opener.stdout is not None
    opener.stdin.write(b"\n")
    opener.stdin.flush()
    assert opener.stdout.readline() == b"closed\n"
    with holes.opened(path, os.O_RDWR) as descriptor, holes.alone_with(descriptor, path) as still_ours:
        still_ours()
        assert holes.openers(descriptor) == []


def test_who_opens_the_file_meanwhile_is_let_in(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", size=1)
    with holes.opened(str(path), os.O_RDWR) as descriptor:
        with holes.alone_with(descriptor, str(path)) as still_ours:
            still_ours()
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            with pytest.raises(ChangeFailed, match="nothing is lost"):
                still_ours()
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))


def test_a_file_that_others_may_write_is_kept_from_them_while_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", size=1)
    path.chmod(0o666)
    with holes.opened(str(path)) as descriptor:
        with holes.unwritten(descriptor, str(path)) as still_ours:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
            still_ours()
            with pytest.raises(BlockingIOError):
                os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            with pytest.raises(ProbeError, match="wants to write to it"):
                still_ours()
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_a_file_that_only_we_may_write_needs_no_lease(tmp_path: Path) -> None:
    path = write(tmp_path / "web.img", size=1)
    path.chmod(0o644)
    with path.open("r+b"), holes.opened(str(path)) as descriptor, holes.unwritten(descriptor, str(path)) as still_ours:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        still_ours()


def test_a_filesystem_without_leases_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "web.img", size=1)

    def refuse(*_arguments: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with holes.opened(str(path), os.O_RDWR) as descriptor:
        monkeypatch.setattr(fcntl, "fcntl", refuse)
        with (
            pytest.raises(ChangeFailed, match="reclaim cannot see whether"),
            holes.alone_with(descriptor, str(path)),
        ):
            pass
