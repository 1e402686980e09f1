"""Copies and jobs in a folder of another user's, who lets names mean other files while root looks and mends."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra

from reclaim.backups import backup
from reclaim.backups.backup import find
from reclaim.backups.job import Job, declared
from reclaim.backups.verify import verify
from reclaim.base.errors import ChangeFailed, NotApplicable, NotAssessable, ProbeError, ReclaimError, Withheld
from reclaim.base.verdict import Verdict
from reclaim.changes.change import Change
from reclaim.changes.file_change import FileChange
from reclaim.changes.kinds import from_json, to_json
from reclaim.changes.punch import HolePunch, SparseRewrite
from reclaim.engine import undo
from reclaim.engine.engine import Subject, judge
from reclaim.files import beneath, holes, replace
from reclaim.handles.guest import Guest
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes
from reclaim.storage import local_image
from tests.filesystems import mounted, require, run
from tests.support import disk_xml, domain_xml, engine, opened, requirement
from tests.swaps import NOBODY, SWAPS, Moment, Scene

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not root")

MIB = 1024 * 1024
COPY = b"head" + bytes(5 * MIB) + b"tail"
JOB = b"#!/bin/sh\nrsync -a /srv/images/ /backup/\n"
#: each moment takes a whole run; `make guests` tries every one
STRIDE = 1 if os.environ.get("RECLAIM_GUESTS") == "all" else 5
EXPECTED = (AssertionError, ChangeFailed, NotApplicable, NotAssessable, ProbeError, Withheld)


@pytest.fixture(params=["ext4", "btrfs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """On ext4 a copy is punched, on btrfs it is written anew. In memory: each moment syncs."""
    require(request.param)
    memory = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path))  # noqa: PTH112
    try:
        with mounted(request.param, memory, 300) as folder:
            folder.chmod(0o755)
            yield folder
    finally:
        shutil.rmtree(memory)


def hypervisor(folder: Path) -> Hypervisor:
    return opened(folder, domain_xml(disk_xml(source="/srv/images/web.img"), running=False))


def mend_copies(owner: Hypervisor, scene: Scene) -> str:
    """Find, judge, propose and apply; what was said."""
    said = []
    for one in find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups:
        try:
            requirement("sparse-backup").check(one)
        except EXPECTED as exc:
            said.append(str(exc))
        try:
            for change in requirement("sparse-backup").fixer(one):
                said.append(str(change.apply(owner)))
        except EXPECTED as exc:
            said.append(str(exc))
    return "\n".join(said)


def mend_job(owner: Hypervisor, scene: Scene) -> str:
    """Judge, edit and take back; what was said."""
    said = []
    (job,) = declared(owner, [BackupNotes(job=scene.file)])
    changes: list[Change] = []
    for step in (
        lambda: requirement("backup-job").check(job),
        lambda: changes.extend(requirement("backup-job").fixer(job)),
        lambda: [change.apply(owner) for change in changes],
        lambda: [change.undo(owner, {}) for change in changes],
    ):
        try:
            said.append(str(step()))
        except EXPECTED as exc:
            said.append(str(exc))
    return "\n".join(said)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: that looks no name up, and takes nearly all of the time."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(holes, "free_bytes", lambda _descriptor: 0)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def at_every_moment(
    folder: Path, name: str, content: bytes, mend: Callable[[Hypervisor, Scene], str], swap: Callable[[Scene], None]
) -> int:
    """Let *swap* happen before looks at names in *mend*, each STRIDEth of them; the number of moments."""
    owner = hypervisor(folder)
    mend(owner, Scene(folder / "scene", name, content))  # the first time modules are loaded
    shutil.rmtree(folder / "scene")
    total = at = 0
    first = 1 + 2 * SWAPS.index(swap) % STRIDE  # another one for each swap: together they meet every moment
    open_before = descriptors()
    while at <= total:
        scene = Scene(folder / "scene", name, content)
        moment = Moment(at, partial(swap, scene))
        with moment.awaited():
            said = mend(owner, scene)
        scene.expect_untouched(said)
        assert descriptors() == open_before, (at, said)
        total = total or moment.count
        at = at + STRIDE if at else first
        shutil.rmtree(folder / "scene")
    assert total > 20
    return total


@pytest.mark.slow
@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("swap", SWAPS)
def test_a_copy_that_is_swapped_at_any_moment_leads_nowhere(place: Path, swap: Callable[[Scene], None]) -> None:
    at_every_moment(place, "web.img", COPY, mend_copies, swap)


@pytest.mark.slow
@pytest.mark.usefixtures("unsynced", "without_openat2")
@pytest.mark.parametrize("swap", [Scene.file_to_link, Scene.folder_to_link, Scene.file_to_pipe])
def test_so_it_is_on_a_kernel_without_openat2(tmp_path: Path, swap: Callable[[Scene], None]) -> None:
    tmp_path.chmod(0o755)
    at_every_moment(tmp_path, "web.img", COPY, mend_copies, swap)


@pytest.fixture
def without_openat2(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(beneath, "_openat2", refuse)


@pytest.mark.slow
@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize(
    "swap", [Scene.file_to_link, Scene.folder_to_link, Scene.declared_to_link, Scene.file_to_hard_link]
)
def test_a_job_that_is_swapped_at_any_moment_leads_nowhere(tmp_path: Path, swap: Callable[[Scene], None]) -> None:
    at_every_moment(tmp_path, "backup.sh", JOB, mend_job, swap)


def verify_copy(owner: Hypervisor, scene: Scene) -> str:
    """`verify-backup` of the copy against an image of the same content; what was said."""
    live = scene.home.parent / "image.raw"
    live.write_bytes(COPY)
    said: list[str] = []
    try:
        verify(str(scene.file), owner, str(live), said.append)
    except ReclaimError as exc:
        said.append(str(exc))
    return "\n".join(said)


@pytest.mark.slow
@pytest.mark.parametrize("swap", [Scene.file_to_link, Scene.folder_to_link, Scene.file_to_hard_link])
def test_a_copy_that_is_swapped_while_it_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Scene], None]
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setattr(local_image, "qemu_img", lambda *_arguments, **_more: (0, "", ""))  # it is given open files
    at_every_moment(tmp_path, "web.img", COPY, verify_copy, swap)


@pytest.mark.slow
def test_a_swapped_copy_is_said_in_one_line(tmp_path: Path) -> None:
    for number, swap in enumerate(SWAPS):
        scene = Scene(tmp_path / str(number), "web.img", COPY)
        owner = hypervisor(tmp_path)
        (one,) = find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups
        swap(scene)
        result = engine(owner, tmp_path).run(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
        assert result.verdict is Verdict.ERROR, (swap, result.reason)
        assert str(scene.file) in result.reason or str(scene.declared) in result.reason
        assert "\n" not in result.reason
        assert result.changes == []
        scene.expect_untouched(result.reason)


# A process that swaps as fast as it can -------------------------------------------------------

_SWAPPER = """
import os, sys
name, target = sys.argv[1:]
os.setgid(65534); os.setuid(65534)
os.symlink(target, name + ".link")
print("ready", flush=True)
while True:
    os.rename(name, name + ".away"); os.rename(name + ".link", name)
    os.rename(name, name + ".link"); os.rename(name + ".away", name)
"""


@pytest.mark.slow
@pytest.mark.parametrize("mend", ["copy", "job"])
def test_a_process_that_swaps_all_the_time_gets_nothing(place: Path, mend: str) -> None:
    owner = hypervisor(place)
    for _ in range(15):
        name, content = ("web.img", COPY) if mend == "copy" else ("backup.sh", JOB)
        scene = Scene(place / "scene", name, content)
        command = [sys.executable, "-c", _SWAPPER, str(scene.file), str(scene.target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as swapper:
            assert swapper.stdout is not None
            swapper.stdout.readline()
            said = (mend_copies if mend == "copy" else mend_job)(owner, scene)
            swapper.kill()
        scene.expect_untouched(said)
        shutil.rmtree(place / "scene")


# Which way leads there ------------------------------------------------------------------------


def test_a_link_that_root_made_leads_to_the_folder(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "web.img", COPY)
    link = tmp_path / "link"
    link.symlink_to("home/declared")
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=link)], owner.guests).backups
    assert one.path == str(link / "sub/web.img")
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert result.verdict is Verdict.FIXED, result.reason
    assert scene.file.stat().st_blocks * 512 < MIB
    link.unlink()
    link.symlink_to("outside")
    with pytest.raises(ProbeError, match="another folder has taken its place"):
        one.scan()


@pytest.mark.parametrize("whose", ["the link is his", "the folder of the link is his"])
def test_a_link_that_another_user_can_have_made_is_not_followed(tmp_path: Path, whose: str) -> None:
    scene = Scene(tmp_path, "web.img", COPY)
    link = tmp_path / "link" if whose == "the link is his" else scene.home / "link"
    link.symlink_to(scene.outside)
    if whose == "the link is his":
        os.lchown(link, NOBODY, NOBODY)
    owner = hypervisor(tmp_path)
    found = find(owner, [BackupNotes(path=link)], owner.guests)
    judged = [judge(requirement("sparse-backup"), Subject(owner, backup=one)) for one in found.strangers]
    assert [one.verdict for one in judged] == [Verdict.ERROR]
    assert "its path has a symbolic link that another user could have made" in judged[0].reason
    scene.expect_untouched(judged[0].reason)


def test_a_file_with_a_name_elsewhere_is_left_where_others_may_write(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "web.img", COPY)
    scene.file_to_hard_link()
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert "several names (hard links)" in result.reason
    assert "MiB" not in result.reason
    scene.expect_untouched(result.reason)


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_name_that_is_taken_away_in_the_right_moment_hides_no_other_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, comes_back: bool
) -> None:
    """Between the open and the look at the number of names: of those one is left, the one elsewhere."""
    scene = Scene(tmp_path, "web.img", COPY)
    scene.file_to_hard_link()
    one = beneath.File.at(str(scene.file))
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        if not os.path.samestat(real(descriptor), os.stat(scene.target)):  # noqa: PTH116
            return real(descriptor)
        scene.file.unlink()
        status = real(descriptor)
        if comes_back:
            os.link(scene.target, scene.file)
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(NotAssessable if comes_back else ProbeError):
        one.open(os.O_RDWR)


def test_a_folder_of_too_many_files_costs_its_own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may write there could fill it, and end the run for everybody."""
    scene = Scene(tmp_path, "web.img", COPY)
    (scene.declared / "another.img").write_bytes(COPY)
    monkeypatch.setattr(backup, "_MOST_FILES", 1)
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups
    assert one.path is None
    assert one.absent.endswith(
        f"{scene.declared} has more than 1 files, so none was judged: give the folder of the images"
    )


def test_a_folder_that_cannot_be_listed_costs_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may open what another user has mounted there (FUSE), and not read it; a disk may fail."""
    scene = Scene(tmp_path, "web.img", COPY)
    broken = scene.declared / "a-mount"
    broken.mkdir()
    listed = os.listdir

    def fails(descriptor: int) -> list[str]:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return listed(descriptor)

    monkeypatch.setattr(os, "listdir", fails)
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups
    assert one.path is not None
    Path(one.path).unlink()
    (one,) = find(owner, [BackupNotes(path=scene.declared)], owner.guests).backups
    assert one.absent.endswith(f"{broken}: Input/output error: reclaim could not read it, so its files are not judged")


@pytest.mark.slow
def test_deeper_folders_than_python_recurses_are_walked(tmp_path: Path) -> None:
    top = tmp_path / "declared"
    deepest = top / "/".join("d" * 1200)
    run("mkdir", "-p", str(deepest))
    try:
        (deepest / "web.img").write_bytes(COPY)
        owner = hypervisor(tmp_path)
        (one,) = find(owner, [BackupNotes(path=top)], owner.guests).backups
        assert one.scan().zeros > 4 * MIB
    finally:
        run("rm", "-r", str(top))  # pytest's own cleaning recurses


@pytest.mark.parametrize("name", ["../../outside/sub/web.img", "/etc/passwd", "sub/../../../outside/sub/web.img"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    scene = Scene(tmp_path, "web.img", COPY)
    with pytest.raises(ProbeError):
        beneath.File(beneath.Folder.at(str(scene.declared)), name).open()


# What a killed rewrite leaves -----------------------------------------------------------------

#: how far a rewrite comes before it is killed: by then the new file has its name, or both names are exchanged
_KILLED = ["give_name", "exchange"]


def killed(folder: Path, path: Path, step: str) -> Path:
    """A run that was killed right after *step*; its folder."""
    owner = hypervisor(folder)
    one = engine(owner, folder)
    change = SparseRewrite.of(str(path), holes.scan(str(path)))
    one.journal.intend(owner.name, "", "sparse-backup", change)
    if (child := os.fork()) == 0:
        done = getattr(replace, step)

        def act(*arguments: object) -> None:
            done(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(replace, step, act)
        change.apply(owner)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return one.journal.path.parent


@pytest.mark.parametrize("step", _KILLED)
def test_what_a_killed_rewrite_leaves_is_named_and_undo_removes_it(tmp_path: Path, step: str) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    path = place / "web.img"
    path.write_bytes(COPY)
    run = killed(tmp_path, path, step)
    (left,) = [one for one in place.iterdir() if one != path]
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=place)], owner.guests).backups
    judged = judge(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert f"a rewrite that died left {left}" in f"{judged.reason}{judged.evidence}"
    said: list[str] = []
    assert undo.undo(run, said.append)
    assert list(place.iterdir()) == [path]
    assert path.read_bytes() == COPY
    expected = "it was not rewritten: it is as it was" if step == "give_name" else "it stays sparse"
    assert expected in said[0]
    assert f"{left.name} that the run left beside it is removed" in said[0]


def test_a_rewrite_that_is_killed_before_its_end_leaves_nothing(tmp_path: Path) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    path = place / "web.img"
    path.write_bytes(COPY)
    run = killed(tmp_path, path, "take_over")
    assert list(place.iterdir()) == [path]
    said: list[str] = []
    assert undo.undo(run, said.append)
    assert said == [f"test-driver: sparse-backup: {path}: it was not rewritten: it is as it was"]


def test_a_journal_of_an_earlier_version_names_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "web.img"
    path.write_bytes(COPY)
    written = to_json(HolePunch.of(str(path), holes.scan(str(path))))
    for name in ("folder", "folder_device", "folder_inode"):
        del written[name]
    change = from_json(written)
    change.apply(hypervisor(tmp_path))
    assert path.stat().st_blocks * 512 < MIB
    assert "the holes stay" in change.undo(hypervisor(tmp_path), {})


def test_undo_removes_nothing_where_another_file_lies_there_by_now(tmp_path: Path) -> None:
    place = tmp_path / "copies"
    place.mkdir()
    path = place / "web.img"
    path.write_bytes(COPY)
    run = killed(tmp_path, path, "give_name")
    path.unlink()
    (left,) = place.iterdir()
    said: list[str] = []
    assert not undo.undo(run, said.append)
    assert "NOT taken back" in said[0]
    assert left.name in said[0]
    assert list(place.iterdir()) == [left]


def test_a_filesystem_without_nameless_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 3.11, on NFS or vfat: the new file has its name from the start."""
    real = os.open

    def refuse(path: str, flags: int, *more: object, **named: object) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", refuse)
    place = tmp_path / "copies"
    place.mkdir()
    path = place / "web.img"
    path.write_bytes(COPY)
    SparseRewrite.of(str(path), holes.scan(str(path))).apply(hypervisor(tmp_path))
    assert path.read_bytes() == COPY
    assert path.stat().st_blocks * 512 < MIB
    assert list(place.iterdir()) == [path]
    folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    assert holes.can_punch(folder)
    os.close(folder)
    assert list(place.iterdir()) == [path]


def test_a_filesystem_that_exchanges_no_names_keeps_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EINVAL, "this filesystem cannot exchange two names")

    monkeypatch.setattr(replace, "exchange", refuse)
    place = tmp_path / "copies"
    place.mkdir()
    path = place / "web.img"
    path.write_bytes(COPY)
    before = path.stat()
    with pytest.raises(ChangeFailed, match="cannot exchange two names; its content is as it was"):
        SparseRewrite.of(str(path), holes.scan(str(path))).apply(hypervisor(tmp_path))
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(place.iterdir()) == [path]


def test_a_declared_file_is_the_one_that_was_found(tmp_path: Path) -> None:
    path = tmp_path / "web.img"
    path.write_bytes(COPY)
    owner = hypervisor(tmp_path)
    (one,) = find(owner, [BackupNotes(path=path)], owner.guests).backups
    path.rename(tmp_path / "kept")
    path.write_bytes(COPY)
    result = engine(owner, tmp_path).run(requirement("sparse-backup"), Subject(owner, one.guest, one.disk, one))
    assert (result.verdict, result.changes) == (Verdict.ERROR, [])
    assert "another file has replaced it" in result.reason


# Job files ------------------------------------------------------------------------------------


def test_an_edit_keeps_owner_mode_and_access_list(tmp_path: Path) -> None:
    path = tmp_path / "backup.sh"
    path.write_bytes(JOB)
    os.chown(path, NOBODY, 12)
    path.chmod(0o750)
    acl = struct.pack(
        "<I" + "HHI" * 5, 2, 1, 7, 2**32 - 1, 2, 5, 33, 4, 5, 2**32 - 1, 16, 5, 2**32 - 1, 32, 0, 2**32 - 1
    )
    os.setxattr(path, "system.posix_acl_access", acl)
    before = path.stat()
    change = FileChange("here", str(path), JOB.decode(), "#!/bin/sh\n")
    with path.open("rb") as held:
        change.apply(hypervisor(tmp_path))
        assert held.read() == JOB
    after = path.stat()
    assert path.read_text() == "#!/bin/sh\n"
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert os.getxattr(path, "system.posix_acl_access") == acl
    change.undo(hypervisor(tmp_path), {})
    assert path.read_bytes() == JOB
    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup.sh", "node.xml"]


def test_a_file_of_the_hypervisor_is_made_and_taken_away(tmp_path: Path) -> None:
    path, owner = tmp_path / "unit", hypervisor(tmp_path)
    change = FileChange("here", str(path), None, "text\n")
    change.apply(owner)
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("text\n", 0o644)
    with pytest.raises(ChangeFailed, match="the file exists by now; nothing was changed"):
        change.apply(owner)
    assert change.undo(owner, {}) == f"{path} is as it was"
    assert not path.exists()
    assert change.undo(owner, {}) == f"{path} is as it was"


def test_a_job_that_changes_while_it_is_edited_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "backup.sh"
    path.write_bytes(JOB)
    real = replace.give_name

    def written_to(*arguments: int | str) -> None:
        real(*arguments)  # type: ignore[arg-type]
        path.write_bytes(b"newer\n")

    monkeypatch.setattr(replace, "give_name", written_to)
    with pytest.raises(ChangeFailed, match="has changed since it was read; nothing was changed"):
        FileChange("here", str(path), JOB.decode(), "x").apply(hypervisor(tmp_path))
    assert path.read_bytes() == b"newer\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["backup.sh", "node.xml"]


def test_what_a_killed_edit_leaves_is_told_and_undone(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    path, owner = folder / "backup.sh", hypervisor(tmp_path)
    path.write_bytes(JOB)
    change = FileChange("here", str(path), JOB.decode(), "x")
    left = folder / replace.beside("backup.sh", path.stat().st_ino)
    left.write_text("x")
    (bystander := folder / replace.beside("backup.sh", 1)).write_text("y")
    assert set(Job(owner, str(path), ()).left) == {str(left), str(bystander)}
    change.undo(owner, {})
    assert path.read_bytes() == JOB
    assert sorted(folder.iterdir()) == sorted([path, bystander])
    left.write_text("x")
    change.apply(owner)
    assert path.read_text() == "x"
    assert sorted(folder.iterdir()) == sorted([path, bystander])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "mode", "words"),
    [
        pytest.param(NOBODY, 0o755, "the user 65534 may write in", id="another's"),
        pytest.param(0, 0o777, "others may write in", id="everybody's"),
        pytest.param(0, 0o775, "others may write in", id="a group's"),
    ],
)
def test_a_shell_edits_nothing_where_others_may_write(tmp_path: Path, owner: int, mode: int, words: str) -> None:
    folder = tmp_path / "jobs"
    (folder / "below").mkdir(parents=True)
    os.chown(folder, owner, owner)
    folder.chmod(mode)
    remote = cast("Guest", RemotePlace(testinfra.get_host("local://")))
    for path in (folder / "backup.sh", folder / "below/backup.sh"):
        path.write_bytes(JOB)
        link = tmp_path / f"link-{path.parent.name}"
        link.symlink_to(path)
        for named in (path, link):
            with pytest.raises(ChangeFailed, match=words):
                FileChange("there", str(named), JOB.decode(), "x").apply(remote)
        assert path.read_bytes() == JOB
    # in a folder like /tmp nobody but the owner of a file renames it
    folder.chmod(0o1777)
    os.chown(folder, 0, 0)
    FileChange("there", str(folder / "backup.sh"), JOB.decode(), "x").apply(remote)
    os.chown(folder / "backup.sh", NOBODY, NOBODY)
    with pytest.raises(ChangeFailed, match="it is the user 65534's"):
        FileChange("there", str(folder / "backup.sh"), "x", "y").apply(remote)


@dataclass
class RemotePlace:
    """What has a shell alone, as another machine has."""

    shell: Any
    name: str = "there"


@pytest.mark.parametrize("left", [b"old\n", b"new\n"], ids=["after-the-exchange", "before-the-exchange"])
def test_an_edit_that_died_stands_in_the_way_of_no_other(tmp_path: Path, left: bytes) -> None:
    owner = hypervisor(tmp_path)
    path = tmp_path / "backup.sh"
    path.write_bytes(b"old\n")
    beside = tmp_path / replace.beside(path.name, path.stat().st_ino)
    beside.write_bytes(left)
    FileChange(owner.name, str(path), "old\n", "new\n").apply(owner)
    assert (path.read_bytes(), beside.exists()) == (b"new\n", False)
    beside.write_bytes(left)
    FileChange(owner.name, str(path), "old\n", "new\n").undo(owner, {})
    assert (path.read_bytes(), beside.exists()) == (b"old\n", False)


def test_what_is_no_edits_stays_beside_and_keeps_the_file_as_it_is(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path)
    path = tmp_path / "backup.sh"
    path.write_bytes(b"old\n")
    beside = tmp_path / replace.beside(path.name, path.stat().st_ino)
    beside.write_bytes(b"somebody's\n")
    with pytest.raises(ChangeFailed, match="lies beside it"):
        FileChange(owner.name, str(path), "old\n", "new\n").apply(owner)
    assert (path.read_bytes(), beside.read_bytes()) == (b"old\n", b"somebody's\n")
