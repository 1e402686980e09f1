"""Files that are obeyed: whose they are, and who could have written them."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reclaim.base.errors import Untrusted
from reclaim.files import trust

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def obeyed(tmp_path: Path) -> Path:
    """A file of ours in two folders of ours."""
    path = tmp_path / "a" / "b" / "file"
    path.parent.mkdir(parents=True)
    path.write_text("text")
    for one in (path, *path.parents[:3]):
        one.chmod(0o755)
    return path


def test_what_is_ours_is_read(obeyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trust.read(obeyed, 4) == b"text"
    monkeypatch.chdir(obeyed.parent.parent)
    assert trust.read(Path("b/../b/./file"), 4) == b"text"
    trust.expect(obeyed.parent / "not" / "there")


def test_no_more_than_is_asked_for_is_read(obeyed: Path) -> None:
    with pytest.raises(OSError, match="more than the 3 bytes"):
        trust.read(obeyed, 3)
    os.truncate(obeyed, 10**12)
    with pytest.raises(OSError, match="more than the 1000 bytes"):
        trust.read(obeyed, 1000)


def _give(path: Path) -> None:
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def _link(path: Path) -> None:
    """*path* is a link of another user's to where it was."""
    there = path.with_name("there")
    path.rename(there)
    path.symlink_to(there)
    _give(path)


def _acl(path: Path) -> None:
    if shutil.which("setfacl") is None:
        pytest.skip("no setfacl: install acl")
    if subprocess.run(["setfacl", "-m", f"u:{NOBODY}:rw", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("no ACLs here")


def _give_to_a_group(path: Path) -> None:
    os.chown(path, 0, 60)
    path.chmod(0o775)


WRONG: dict[str, tuple[Callable[[Path], None], str]] = {
    "another's": (
        _give,
        "belongs to nobody (mode 0755), neither to root nor to you; read it, and if it is right",
    ),
    "everybody's": (lambda path: path.chmod(0o757), "can be written by everybody (owner root, mode 0757)"),
    "a-group's": (_give_to_a_group, "can be written by the group games"),
    "by-acl": (_acl, "can be written by those whom its ACL names"),
    "a-link": (_link, "is a link of nobody; remove it"),
}


@needs_root
@pytest.mark.parametrize("which", [".", "..", "../.."], ids=["file", "folder", "folder-above"])
@pytest.mark.parametrize(("spoil", "words"), WRONG.values(), ids=WRONG)
def test_what_others_own_or_can_write_is_not_obeyed(
    obeyed: Path, spoil: Callable[[Path], None], words: str, which: str
) -> None:
    spoilt = {".": obeyed, "..": obeyed.parent, "../..": obeyed.parent.parent}[which]
    spoil(spoilt)
    for ask in (lambda: trust.read(obeyed, 4), lambda: trust.expect(obeyed)):
        with pytest.raises(Untrusted) as caught:
            ask()
        assert str(caught.value).startswith(f"{spoilt} {words}")
        assert "\n" not in str(caught.value)
        far = which == "../.." and spoil is not _link
        assert ("copy it to a folder" if far else str(spoilt)) in caught.value.way_out


@needs_root
def test_what_a_link_leads_to_is_judged_as_well(obeyed: Path) -> None:
    link = obeyed.parent.parent / "link"
    for target in ("b/file", str(obeyed)):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        assert trust.read(link, 4) == b"text"
    _give(obeyed.parent)
    with pytest.raises(Untrusted, match="b belongs to nobody"):
        trust.read(link, 4)


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    with pytest.raises(OSError, match="Too many levels"):
        trust.read(tmp_path / "one", 1)


def test_the_sticky_bit_keeps_a_folder_of_ours_what_it_is(obeyed: Path) -> None:
    shared = obeyed.parent.parent
    shared.chmod(0o1777)
    assert trust.read(obeyed, 4) == b"text"
    shared.chmod(0o777)
    with pytest.raises(Untrusted, match="can be written by everybody"):
        trust.read(obeyed, 4)


@needs_root
def test_in_a_sticky_folder_what_is_another_users_is_not_obeyed(obeyed: Path) -> None:
    obeyed.parent.parent.chmod(0o1777)
    _give(obeyed.parent)
    with pytest.raises(Untrusted, match="b belongs to nobody"):
        trust.read(obeyed, 4)


def test_the_sticky_bit_of_a_file_protects_nothing(obeyed: Path) -> None:
    obeyed.chmod(0o1777)
    with pytest.raises(Untrusted, match="everybody"):
        trust.read(obeyed, 4)


@needs_root
@pytest.mark.parametrize(
    ("members", "accounts", "trusted"),
    [([], [7], True), (["me"], [7], True), (["me", "you"], [7], False), ([], [7, 8], False)],
    ids=["nobody-named", "the-owner-named", "another-named", "anothers-first-group"],
)
def test_a_private_group_may_write(
    obeyed: Path, monkeypatch: pytest.MonkeyPatch, members: list[str], accounts: list[int], *, trusted: bool
) -> None:
    """As umask 002 leaves it with a group for each user."""

    class Account:
        def __init__(self, uid: int) -> None:
            self.pw_uid, self.pw_gid, self.pw_name = uid, 77, "me" if uid == 7 else "you"

    class Group:
        gr_mem = members
        gr_name = "mine"

    monkeypatch.setattr(pwd, "getpwuid", Account)
    monkeypatch.setattr(pwd, "getpwall", lambda: list(map(Account, accounts)))
    monkeypatch.setattr(grp, "getgrgid", lambda _: Group)
    monkeypatch.setattr(trust, "trusted_users", lambda: {0, 7})
    os.chown(obeyed, 7, 77)
    obeyed.chmod(0o664)
    if trusted:
        assert trust.read(obeyed, 4) == b"text"
        _acl(obeyed)
        with pytest.raises(Untrusted, match="ACL"):
            trust.read(obeyed, 4)
    else:
        with pytest.raises(Untrusted, match="the group mine"):
            trust.read(obeyed, 4)


@needs_root
def test_who_owns_the_program_is_obeyed_by_root_as_the_program_is(
    obeyed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """sudo in a checkout of one's own."""
    program = tmp_path / "program"
    program.touch()
    _give(program)
    _give(obeyed)
    with pytest.raises(Untrusted):
        trust.read(obeyed, 4)
    monkeypatch.setattr(trust, "__file__", str(program))
    assert trust.read(obeyed, 4) == b"text"


@needs_root
def test_a_user_obeys_roots_files_and_her_own(obeyed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 in trust.trusted_users()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    _give(obeyed)
    assert trust.read(obeyed, 4) == b"text"


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file_is_not_read(obeyed: Path, kind: str) -> None:
    obeyed.unlink()
    if kind == "fifo":
        os.mkfifo(obeyed, 0o600)
    else:
        obeyed.mkdir(0o700)
    with pytest.raises(OSError, match=r"not a file|Is a directory"):
        trust.read(obeyed, 4)


def test_no_descriptor_is_left_open(obeyed: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (obeyed.parent / "link").symlink_to("file")
    for _ in range(3):
        trust.read(obeyed.parent / "link", 4)
        trust.expect(obeyed.parent / "x")
        with pytest.raises(OSError, match="No such file"):
            trust.read(obeyed.parent / "none", 4)
    obeyed.chmod(0o777)
    with pytest.raises(Untrusted):
        trust.read(obeyed, 4)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
