"""FileChange, run for real by this machine's /bin/sh."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import testinfra

from reclaim.base.errors import ChangedSince, ChangeFailed, ProbeError
from reclaim.changes.file_change import MAX_FILE_BYTES, FileChange
from reclaim.files.replace import beside
from reclaim.handles.guest import Guest
from tests.support import Inside, executable, inhabited


@dataclass
class _Local:
    """This machine, in the place of a guest: only its shell is asked for."""

    shell: Any
    name: str = "here"


@pytest.fixture
def here() -> Guest:
    return cast("Guest", _Local(testinfra.get_host("local://")))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "a file"
    path.parent.mkdir()
    path.write_text("old\n", encoding="utf-8")
    return path


def _change(path: Path, before: str | None = "old\n", after: str | None = "new\n", **more: Any) -> FileChange:
    return FileChange("here", str(path), before, after, **more)


def _alone(path: Path) -> bool:
    return not list(path.parent.glob(".reclaim.*"))


def test_a_file_is_replaced_and_put_back(here: Guest, file: Path) -> None:
    change = _change(file)
    outcome = change.apply(here)
    assert file.read_text() == "new\n"
    assert change.undo(here, outcome) == f"{file} is as it was"
    assert file.read_text() == "old\n"
    assert _alone(file)


def test_mode_owner_and_xattrs_stay(here: Guest, file: Path) -> None:
    file.chmod(0o2640)
    if os.geteuid() == 0:
        os.chown(file, 12, 34)
        file.chmod(0o2640)
    os.setxattr(file, "user.note", b"kept")
    before = file.stat()
    _change(file).apply(here)
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(file, "user.note") == b"kept"


def test_the_old_file_is_never_written_to(here: Guest, file: Path) -> None:
    with file.open(encoding="utf-8") as held:
        _change(file).apply(here)
        assert held.read() == "old\n"


def test_the_old_file_is_never_written_to_through_a_link(here: Guest, file: Path) -> None:
    link = file.parent.parent / "link"
    link.symlink_to("etc/a file")
    with file.open(encoding="utf-8") as held:
        _change(link).apply(here)
        assert held.read() == "old\n"


def test_a_symbolic_link_is_followed_and_stays(here: Guest, file: Path) -> None:
    link = file.parent.parent / "link"
    link.symlink_to("etc/a file")
    _change(link).apply(here)
    assert link.readlink() == Path("etc/a file")
    assert file.read_text() == "new\n"
    assert _alone(file)
    assert _alone(link)


def test_a_symbolic_link_that_leads_nowhere_is_refused(here: Guest, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("gone/away")
    with pytest.raises(ChangeFailed):
        _change(link).apply(here)
    assert link.is_symlink()


def test_a_file_that_has_changed_is_refused(here: Guest, file: Path) -> None:
    file.write_text("somebody else's\n")
    with pytest.raises(ChangeFailed, match="has changed since it was read; nothing was changed"):
        _change(file).apply(here)
    assert file.read_text() == "somebody else's\n"
    assert _alone(file)


def test_an_undo_is_refused_where_the_file_has_changed_since(here: Guest, file: Path) -> None:
    change = _change(file)
    outcome = change.apply(here)
    file.write_text("newer\n")
    with pytest.raises(ChangedSince, match="has changed since that run; reclaim left it as it is") as caught:
        change.undo(here, outcome)
    assert caught.value.diff.splitlines()[-1] == "+newer"
    assert file.read_text() == "newer\n"


def test_a_file_that_is_gone_is_refused(here: Guest, file: Path) -> None:
    file.unlink()
    with pytest.raises(ChangeFailed, match="cannot be read"):
        _change(file).apply(here)
    assert list(file.parent.iterdir()) == []


def test_why_no_file_can_be_made_is_told(here: Guest) -> None:
    """procfs takes no new files, as a root that is mounted read-only or full does not."""
    version = Path("/proc/version")
    change = FileChange("here", str(version), version.read_text(encoding="utf-8"), "another")
    with pytest.raises(ChangeFailed, match="no file can be made beside it: No such file or directory"):
        change.apply(here)


def test_a_new_file_is_made_and_taken_away(here: Guest, file: Path) -> None:
    path = file.with_name("modules")
    change = _change(path, before=None)
    outcome = change.apply(here)
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    change.undo(here, outcome)
    assert not path.exists()
    assert _alone(file)


def test_a_new_file_never_replaces_one(here: Guest, file: Path) -> None:
    with pytest.raises(ChangeFailed, match="exists by now; nothing was changed"):
        _change(file, before=None).apply(here)
    assert file.read_text() == "old\n"


def test_a_file_is_taken_away_only_as_it_was_read(here: Guest, file: Path) -> None:
    with pytest.raises(ChangeFailed, match="has changed"):
        _change(file, before="other\n", after=None).apply(here)
    assert file.exists()
    _change(file, after=None).apply(here)
    assert not file.exists()


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"# \xe4\xf6\xff\n", id="8-bit"),
        pytest.param("# é漢\n".encode(), id="utf-8"),
        pytest.param(b"no newline", id="no-last-newline"),
        pytest.param(b"", id="empty"),
        pytest.param(b"$HOME `id` \"x\" 'y' %s \\n\n", id="characters-of-the-shell"),
        pytest.param(b"x" * MAX_FILE_BYTES, id="as-large-as-allowed"),
    ],
)
def test_every_byte_arrives(here: Guest, file: Path, raw: bytes) -> None:
    _change(file, after=raw.decode("utf-8", errors="surrogateescape")).apply(here)
    assert file.read_bytes() == raw


def test_a_file_beyond_an_argument_is_refused(here: Guest, file: Path) -> None:
    with pytest.raises(ChangeFailed, match="too large"):
        _change(file, after="x" * (MAX_FILE_BYTES + 1)).apply(here)
    assert file.read_text() == "old\n"


@pytest.mark.parametrize("name", ["-rf", "a'b", 'a"b', "$(touch x)", "a\nb", "a%sb", "a;b"])
def test_a_path_is_a_path_whatever_it_is_called(here: Guest, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old\n", encoding="utf-8")
    _change(path).apply(here)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {name: "new\n"}


# verify and then


def _checker(folder: Path, script: str) -> str:
    path = folder / "checker"
    executable(path, f"#!/bin/sh\n{script}\n")
    return str(path)


def test_a_file_that_verifies_worse_is_not_put_in_place(here: Guest, file: Path) -> None:
    verify = _checker(file.parent.parent, 'grep -q new "$1" && { echo "[E] it is new"; exit 1; }; exit 0')
    with pytest.raises(ChangeFailed, match=r"\[E\] it is new"):
        _change(file, verify=verify).apply(here)
    assert file.read_text() == "old\n"
    assert _alone(file)


def test_errors_that_were_there_before_do_not_count(here: Guest, file: Path) -> None:
    verify = _checker(file.parent.parent, 'echo "[E] always"; exit 1')
    _change(file, verify=verify).apply(here)
    assert file.read_text() == "new\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", "/dev/no-such /no-such ext4 defaults 0 0\n", id="nowhere-to-mount-it"),
        pytest.param("/dev/no-such none swap sw 0 0\n", "UUID=5e1f none swap sw 0 0\n", id="swap-by-a-uuid-of-none"),
        pytest.param("/dev/no-such / ext4 rw 0 1\n", "PARTUUID=5e1f / ext4 rw 0 1\n", id="root-by-a-partuuid-of-none"),
        pytest.param("/dev/no-such none swap sw\n", "/dev/no-such none swap discard=all\n", id="swapon-knows-no-such"),
    ],
)
def test_findmnt_refuses_an_fstab_that_nothing_could_mount(here: Guest, file: Path, before: str, after: str) -> None:
    """What the fixer has verified before it counts, by the findmnt of this machine."""
    proc = "proc /proc proc defaults 0 0\n"
    file.write_text(proc + before)
    change = _change(file, before=proc + before, after=proc + after, verify="findmnt --verify --tab-file")
    with pytest.raises(ChangeFailed, match="findmnt --verify"):
        change.apply(here)
    assert file.read_text() == proc + before
    assert _alone(file)


def test_what_follows_a_change_sees_it(here: Guest, file: Path) -> None:
    seen = file.parent / "seen"
    _change(file, then=f"cat '{file}' > '{seen}'").apply(here)
    assert seen.read_text() == "new\n"


@pytest.mark.parametrize("before", ["old\n", None], ids=["changed", "made"])
def test_where_what_follows_fails_the_file_is_put_back(here: Guest, file: Path, before: str | None) -> None:
    if before is None:
        file.unlink()
    with pytest.raises(ChangeFailed, match=r"ended with status 3: no\b.*is as it was"):
        _change(file, before=before, then="echo no >&2; exit 3").apply(here)
    assert (file.read_text() if file.exists() else None) == before
    assert _alone(file)


def test_where_what_follows_never_answers_the_file_is_put_back(tmp_path: Path) -> None:
    """The agent's time limit is a ProbeError, not an exit status."""

    def hang(_inside: Inside) -> int:
        raise ProbeError("one: a command in the guest did not end within 900 s")

    inside = Inside(commands={"update-grub": hang})
    guest = inhabited(tmp_path, inside)
    files = dict(inside.files)
    change = FileChange("one", "/etc/default/grub", files["/etc/default/grub"], "x\n", then="update-grub")
    with pytest.raises(ChangeFailed, match=r"did not end within 900 s.*is as it was"):
        change.apply(guest)
    assert inside.files == files


def test_a_file_that_cannot_be_put_back_leaves_the_outcome_open(here: Guest, file: Path) -> None:
    """No other error than ChangeFailed lets undo know of it."""
    then = f"echo more >> '{file}'; echo the cause >&2; exit 3"
    with pytest.raises(ProbeError, match=r"status 3: the cause; reclaim could not put .* back: .*has changed since"):
        _change(file, then=then).apply(here)
    assert file.read_text() == "new\nmore\n"


def test_an_undo_runs_what_follows_too(here: Guest, file: Path) -> None:
    seen = file.parent / "seen"
    change = _change(file, then=f"cat '{file}' >> '{seen}'")
    change.undo(here, change.apply(here))
    assert seen.read_text() == "new\nold\n"


def test_an_undo_whose_command_fails_says_that_the_file_is_back(here: Guest, file: Path) -> None:
    change = _change(file, then=f"grep -q new '{file}'")
    outcome = change.apply(here)
    with pytest.raises(ChangeFailed, match="is as it was, but here: grep"):
        change.undo(here, outcome)
    assert file.read_text() == "old\n"


def test_a_file_change_shows_the_command_that_follows() -> None:
    assert FileChange("one", "/a", "x\n", "y\n", then="update-grub").diff.splitlines()[-3:] == [
        "-x",
        "+y",
        "then: update-grub",
    ]


def test_a_file_that_names_a_device_that_is_gone_is_not_put_back(here: Guest, tmp_path: Path) -> None:
    path = tmp_path / "fstab"
    path.write_text("UUID=1 / ext4\n", encoding="utf-8")
    change = _change(path, "/dev/vdx1 / ext4\n", "UUID=1 / ext4\n", devices=["/dev/vdx1"])
    with pytest.raises(ChangeFailed, match="/dev/vdx1, which does not exist"):
        change.undo(here, {})
    assert path.read_text(encoding="utf-8") == "UUID=1 / ext4\n"


def test_a_change_that_was_never_applied_is_taken_back_without_a_word(here: Guest, file: Path) -> None:
    assert _change(file).undo(here, {}) == f"{file} is as it was"
    assert file.read_text() == "old\n"


# A file of the hypervisor itself --------------------------------------------------------------


@dataclass
class _Hypervisor(_Local):
    """This machine, as the hypervisor that reclaim runs on: its files are opened by descriptor."""

    is_local: bool = True


class _NoShell:
    def run(self, command: str, *arguments: str, **_more: Any) -> Any:
        raise AssertionError(f"a file of this machine needs no shell: {command} {arguments}")


@pytest.fixture
def hypervisor() -> Guest:
    return cast("Guest", _Hypervisor(_NoShell()))


def _left(file: Path, text: str) -> Path:
    """A file that a run left beside *file* when it was killed."""
    left = file.with_name(beside(file.name, file.stat().st_ino))
    left.write_text(text, encoding="utf-8")
    return left


def test_a_file_of_the_hypervisor_is_replaced_and_put_back_without_a_shell(hypervisor: Guest, file: Path) -> None:
    change = _change(file)
    outcome = change.apply(hypervisor)
    assert file.read_text() == "new\n"
    assert str(file) in change.undo(hypervisor, outcome)
    assert file.read_text() == "old\n"
    assert list(file.parent.iterdir()) == [file]


def test_a_file_of_the_hypervisor_is_made_and_taken_away(hypervisor: Guest, file: Path) -> None:
    path = file.with_name("made")
    change = _change(path, before=None)
    change.undo(hypervisor, change.apply(hypervisor))
    assert not path.exists()
    change.undo(hypervisor, {})
    gone = _change(file, after=None)
    gone.apply(hypervisor)
    assert not file.exists()
    gone.undo(hypervisor, {})
    assert file.read_text() == "old\n"


@pytest.mark.parametrize("text", ["old\n", "new\n"])
def test_what_a_killed_run_left_beside_it_is_removed(hypervisor: Guest, file: Path, text: str) -> None:
    left = _left(file, text)
    change = _change(file)
    change.apply(hypervisor)
    assert not left.exists()
    left = _left(file, text)
    change.undo(hypervisor, {})
    assert not left.exists()
    left = _left(file, text)
    change.undo(hypervisor, {})
    assert not left.exists(), "also where the run had changed nothing yet"


def test_what_somebody_else_left_beside_it_stays(hypervisor: Guest, file: Path) -> None:
    left = _left(file, "mine\n")
    with pytest.raises(ChangeFailed, match="lies beside it"):
        _change(file).apply(hypervisor)
    _change(file).undo(hypervisor, {})
    assert (left.read_text(), file.read_text()) == ("mine\n", "old\n")


def test_an_undo_on_the_hypervisor_is_refused_where_the_file_has_changed_since(hypervisor: Guest, file: Path) -> None:
    change = _change(file)
    change.apply(hypervisor)
    file.write_text("newer\n")
    with pytest.raises(ChangedSince) as caught:
        change.undo(hypervisor, {})
    assert caught.value.diff.splitlines()[-2:] == ["-new", "+newer"]
    assert file.read_text() == "newer\n"
    file.unlink()
    with pytest.raises(ChangeFailed, match="No such file"):
        change.undo(hypervisor, {})


def test_the_place_and_the_file_are_named_where_it_cannot_be_changed(hypervisor: Guest, file: Path) -> None:
    with pytest.raises(ChangeFailed) as caught:
        _change(file, before="another\n").apply(hypervisor)
    assert str(caught.value).startswith(f"here: {file}: ")
    assert file.read_text() == "old\n"


def test_a_made_file_that_exists_by_the_time_of_undo_is_shown(here: Guest, file: Path) -> None:
    """It was to come back where there was none; a new one lies there, and is shown."""
    with pytest.raises(ChangedSince) as caught:
        _change(file, before="x\n", after=None).undo(here, {})
    assert "+old" in caught.value.diff
    assert file.read_text() == "old\n"


def test_bytes_that_are_no_text_are_shown_as_such(here: Guest, file: Path) -> None:
    change = _change(file, after="new\udcff\n")
    assert "+new\N{REPLACEMENT CHARACTER}" in change.diff
    change.apply(here)
    assert file.read_bytes() == b"new\xff\n"
    change.undo(here, {})
    assert file.read_text() == "old\n"


def test_a_verified_change_of_the_hypervisor_goes_by_the_shell(file: Path) -> None:
    place = cast("Guest", _Hypervisor(testinfra.get_host("local://")))
    verify = _checker(file.parent.parent, 'grep -q new "$1" && { echo "[E] it is new"; exit 1; }; exit 0')
    with pytest.raises(ChangeFailed, match="it is new"):
        _change(file, verify=verify).apply(place)
    assert file.read_text() == "old\n"
