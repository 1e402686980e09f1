"""backup-job: the check and the fixer as a pair, for every format that a job comes in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reclaim.backups.job import Job
from reclaim.base.verdict import Result, Verdict
from reclaim.engine import undo
from reclaim.engine.engine import Subject
from reclaim.handles.hypervisor import Hypervisor
from tests.filesystems import run
from tests.jobs import IMAGE, MODERN, job, judged, rsync, running, says_version
from tests.support import engine, executable, requirement

__all__ = ["rsync"]

#: versions of rsync
OLD, OLDEST = "3.2.7", "3.1.2"


def mend(folder: Path, owner: Hypervisor, one: Job) -> Result:
    """Refused → fixed → accepted → a second run proposes nothing → undone: the file is as it was."""
    path = Path(one.path)
    before = path.read_bytes()
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    inventory = folder / "inventory.toml"
    inventory.write_text(f"[[backup]]\njob = {json.dumps(one.path)}\n")
    mender = engine(owner, folder)
    mender.journal.inventory = str(inventory)
    result = mender.run(requirement("backup-job"), Subject(owner, job=one))
    assert result.verdict is Verdict.FIXED, result.reason
    mender.journal.end()
    again = engine(owner, folder).run(requirement("backup-job"), Subject(owner, job=one))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    after = path.read_bytes()
    said: list[str] = []
    assert undo.undo(mender.journal.path.parent, said.append), said
    assert path.read_bytes() == before
    path.write_bytes(after)
    return result


#: format -> the file's name, its text with + where the option comes to stand
FORMATS = {
    "script": ("backup.sh", "#!/bin/sh\nset -e\n# rsync -a stays in the comment\nrsync+ -a /srv/images/ /backup/\n"),
    "continued": (
        "backup.sh",
        "#!/bin/bash\nnice -n 9 ionice -c3 rsync+ \\\n    -a \\\n    '/srv/images/web.qcow2' \"$TARGET/\" >/dev/null\n",
    ),
    "variable": (
        "backup.sh",
        '#!/bin/bash\nOPTS="-a --delete"\nfor d in images; do\n  rsync+ $OPTS "/srv/$d/" /b || exit 1\ndone\n',
    ),
    "array": (
        "backup.sh",
        '#!/bin/bash\no=(-a --exclude "*.iso")\nif true; then /usr/bin/env rsync+ "${o[@]}" /srv/images /b; fi\n',
    ),
    "inner shell": ("backup.sh", "#!/bin/sh\nf() { :; }\nsh -c 'rsync+ -a /srv/images/ /b && sync'\n"),
    "cron.d": (
        "cron.d/backup",
        "MAILTO=root\n# nightly\n0 3 * * 1-5 root rsync+ -a /srv/images/ /b/$(date \\%a)/ 2>&1\n@weekly root true\n",
    ),
    "crontab": ("crontabs/root", "*/30 1,2 * jan mon rsync+ -a /srv/images/ /b\n"),
    "anacrontab": ("anacrontab", "SHELL=/bin/sh\n7 15 backup rsync+ -a /srv/images/ /b\n"),
    "unit": (
        "backup.service",
        "[Unit]\nDescription=rsync\n[Service]\nExecStart=-/usr/bin/env rsync+ -a \\\n# rsync\n  /srv/images/ '/b/%H'\n",
    ),
    "unit with an argv[0]": (
        "backup.service",
        "[Service]\nExecStart=-@/usr/bin/rsync nightly+ -a /srv/images/ /b\n",
    ),
    "unit with a shell": ("backup.service", "[Service]\nExecStart=/bin/sh -c 'rsync+ -a /srv/images/ /b'\n"),
    "rsnapshot": (
        "rsnapshot.conf",
        "snapshot_root\t/b/\nrsync_long_args\t--delete --relative+\nbackup\t/srv/\tlocalhost/\n",
    ),
    "rsnapshot with a value too many": (
        "rsnapshot.conf",
        "snapshot_root\t/b/\nrsync_long_args\t--delete+\t--relative\nbackup\t/srv/\tlocalhost/\n",
    ),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_sparse_is_added_and_not_a_byte_else(tmp_path: Path, kind: str) -> None:
    name, text = FORMATS[kind]
    owner, one = job(tmp_path, text.replace("+", ""), name)
    path = Path(one.path)
    path.chmod(0o750)
    bystander = path.with_name("other")
    bystander.write_text("rsync -a /srv/images/ /b\n")
    result = mend(tmp_path, owner, one)
    assert path.read_text() == text.replace("+", " --sparse")
    assert path.stat().st_mode & 0o777 == 0o750
    assert bystander.read_text() == "rsync -a /srv/images/ /b\n"
    assert [change.kind for change in result.changes] == ["file"]
    assert result.changes[0].diff.count("--sparse") == 1
    assert not list(path.parent.glob(".reclaim*"))


def test_rsnapshot_gets_its_default_arguments_with_sparse(tmp_path: Path) -> None:
    text = "snapshot_root\t/b/\nbackup\t/srv/\tlocalhost/\nbackup\t/etc/\tlocalhost/\n"
    owner, one = job(tmp_path, text, "rsnapshot.conf")
    mend(tmp_path, owner, one)
    line = "rsync_long_args\t--delete --numeric-ids --relative --delete-excluded --sparse\n"
    assert Path(one.path).read_text() == text + line


@pytest.mark.parametrize(
    ("common", "own"),
    [("--delete", "rsync_long_args=--relative"), ("--delete -e", "+rsync_long_args=--relative")],
    ids=["replaced", "swallowed"],
)
def test_rsnapshot_would_not_hear_what_is_added_for_all(tmp_path: Path, common: str, own: str) -> None:
    """The arguments of one backup replace them, or an option before it takes it for its value: a person has to."""
    text = f"snapshot_root\t/b/\nrsync_long_args\t{common}\nbackup\t/srv/\tl/\t{own}\n"
    _, one = job(tmp_path, text, "rsnapshot.conf")
    (found,) = one.assess().findings
    assert (found.line, found.edits, found.by_hand) == (3, (), "add --sparse")


def test_no_sparse_is_taken_out(tmp_path: Path) -> None:
    owner, one = job(tmp_path, "#!/bin/sh\nrsync -aS --no-sparse /srv/images/ /b\n", "backup.sh")
    mend(tmp_path, owner, one)
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync --sparse -aS /srv/images/ /b\n"


# --inplace ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "words"),
    [(OLD, "rsync 3.2.7 can leave other data in the copy"), (OLDEST, "rsync 3.1.2 refuses --sparse with --inplace")],
)
def test_inplace_is_taken_out_before_it_is_safe(tmp_path: Path, rsync: Path, version: str, words: str) -> None:
    says_version(rsync, version)
    owner, one = job(tmp_path, "#!/bin/sh\nrsync -aS --inplace /srv/images/ /b\n", "backup.sh")
    assert words in judged(one).reason
    mend(tmp_path, owner, one)
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync -aS /srv/images/ /b\n"


def test_a_program_of_a_user_is_not_run_for_its_version(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "alice" / "rsync"
    program.parent.mkdir()
    executable(program, f"#!/bin/sh\ntouch {ran}\necho 'rsync  version {MODERN}  protocol version 31'\n")
    _, one = job(tmp_path, f"0 3 * * * {program} -aS --inplace /srv/images/ /b\n", "crontabs/alice")
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE
    assert "an rsync of unknown version" in judged(one).reason
    Path(one.path).write_text(Path(one.path).read_text().replace("-aS", "-a"))
    assert "withheld: line 1: add --sparse if the rsync that writes is 3.3.0 or newer" in (
        engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one)).reason
    )
    assert not ran.exists()


def test_inplace_is_accepted_since_it_is_safe(tmp_path: Path) -> None:
    _, one = job(tmp_path, "#!/bin/sh\nrsync -aS --inplace /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT


def test_sparse_is_not_added_to_inplace_for_an_rsync_that_nobody_has_seen(tmp_path: Path) -> None:
    text = "#!/bin/sh\nrsync -a --inplace /srv/images/ kvm2:/b\n"
    owner, one = job(tmp_path, text, "backup.sh")
    result = engine(owner, tmp_path).run(requirement("backup-job"), Subject(owner, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "withheld: line 2: add --sparse if the rsync that writes is 3.3.0 or newer" in result.reason
    assert Path(one.path).read_text() == text


def test_snapshots_want_inplace_and_unchanged_blocks(tmp_path: Path) -> None:
    text = "#!/bin/sh\nrsync -a -S /srv/images/ /b\n"
    owner, one = job(tmp_path, text, "backup.sh", snapshots=True)
    assert "a copy that is written whole shares nothing with them" in judged(one).reason
    mend(tmp_path, owner, one)
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync --inplace --no-whole-file -a -S /srv/images/ /b\n"


@pytest.mark.parametrize("option", ["--partial-dir=.part", "--partial-dir .part", "--delay-updates"])
def test_inplace_is_not_added_to_what_rsync_refuses_with_it(tmp_path: Path, option: str) -> None:
    text = f"#!/bin/sh\nrsync -aS {option} /srv/images/ /b\n"
    owner, one = job(tmp_path, text, "backup.sh", snapshots=True)
    result = engine(owner, tmp_path).run(requirement("backup-job"), Subject(owner, job=one))
    assert f"instead of {option.replace('=', ' ').split()[0]}: rsync refuses" in result.reason
    assert Path(one.path).read_text() == text


def test_inplace_is_not_added_to_generations_that_are_hard_links(tmp_path: Path) -> None:
    """A second run into today's folder would write through today's links into yesterday's copy."""
    text = "#!/bin/sh\nrsync -aS --link-dest=/b/yesterday /srv/images/ /b/today/\n"
    _, one = job(tmp_path, text, "backup.sh", snapshots=True)
    assert judged(one).verdict is Verdict.COMPLIANT


def test_inplace_is_not_added_to_options_that_nobody_has_seen(tmp_path: Path) -> None:
    _, one = job(tmp_path, "#!/bin/sh\nrsync -aS $1 /srv/images/ /b\n", "backup.sh", snapshots=True)
    found = judged(one)
    assert (found.verdict, "put together when it runs" in found.reason) == (Verdict.NOT_ASSESSABLE, True)


def test_inplace_alone_shares_nothing_where_both_ends_are_local(tmp_path: Path) -> None:
    owner, one = job(tmp_path, "#!/bin/sh\nrsync -aSW --inplace /srv/images/ /b\n", "backup.sh", snapshots=True)
    assert "shares nothing" in judged(one).reason
    Path(one.path).write_text("#!/bin/sh\nrsync -aS --inplace --whole-file /srv/images/ /b\n")
    mend(tmp_path, owner, one)
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync --no-whole-file -aS --inplace /srv/images/ /b\n"


def test_below_the_safe_version_snapshots_are_told_and_nothing_is_proposed(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, OLD)
    _, one = job(tmp_path, "#!/bin/sh\nrsync -aS /srv/images/ /b\n", "backup.sh", snapshots=True)
    found = judged(one)
    assert found.verdict is Verdict.COMPLIANT
    assert "rsync 3.3.0 could (here rsync 3.2.7)" in found.evidence


def test_btrfs_is_asked_for_snapshots(tmp_path: Path, btrfs: Path) -> None:
    _, one = job(tmp_path, f"#!/bin/sh\nrsync -aS /srv/images/ {btrfs}/current/vm/\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT
    run("btrfs", "subvolume", "snapshot", "-r", str(btrfs / "current"), str(btrfs / "hourly"))
    assert "on btrfs with snapshots (hourly)" in judged(one).reason
    owner, one = job(tmp_path, f"#!/bin/sh\nrsync -aS /srv/images/ {btrfs}/current/vm/\n", "backup.sh")
    mend(tmp_path, owner, one)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rsnapshot.conf", "snapshot_root\t/b/\nrsync_long_args\t--sparse --inplace\nbackup\t/srv/\tlocalhost/\n"),
        ("backup.sh", "#!/bin/sh\ncp -al /b/daily.0 /b/daily.1\nrsync -aS --inplace /srv/images/ /b/daily.0\n"),
    ],
)
def test_inplace_ruins_hard_linked_generations(tmp_path: Path, name: str, text: str) -> None:
    _, one = job(tmp_path, text, name)
    assert "writes through the hard links into every earlier copy" in judged(one).reason


def test_an_option_that_lies_elsewhere_is_told_and_left(tmp_path: Path, rsync: Path) -> None:
    says_version(rsync, OLD)
    text = '#!/bin/sh\nOPTS="-aS --inplace"\nrsync $OPTS /srv/images/ /b\n'
    owner, one = job(tmp_path, text, "backup.sh")
    result = engine(owner, tmp_path).run(requirement("backup-job"), Subject(owner, job=one))
    assert "withheld: line 3: take --inplace out of the line that sets it" in result.reason
    assert Path(one.path).read_text() == text


# Torn images ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        "rsync -aS /srv/images/ /b",
        f"cp {IMAGE} /b",
        "tar -cSf /b/vm.tar /srv/images",
        f"dd if={IMAGE} of=/b/web conv=sparse",
        f"qemu-img convert -U -O qcow2 {IMAGE} /b/web.qcow2",
    ],
)
def test_a_running_guest_is_not_copied_live(tmp_path: Path, command: str) -> None:
    one = running(tmp_path, f"#!/bin/sh\n{command}\n")
    found = judged(one)
    assert found.verdict is Verdict.NONCOMPLIANT
    assert "running guests while they are written to (one)" in found.reason
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert "virsh backup-begin" in result.reason
    assert result.changes == []


def test_what_can_be_mended_is_and_the_rest_is_still_told(tmp_path: Path) -> None:
    one = running(tmp_path, "#!/bin/sh\nrsync -a /srv/images/ /b\n")
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "inconsistent" in result.reason
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync --sparse -a /srv/images/ /b\n"


# Bad input ------------------------------------------------------------------------------------


def test_bytes_that_are_no_utf8_survive_the_edit(tmp_path: Path) -> None:
    owner, one = job(tmp_path, "", "backup.sh")
    Path(one.path).write_bytes(b"#!/bin/sh\n# \xff\nrsync -a /srv/images/ /b\n")
    mend(tmp_path, owner, one)
    assert Path(one.path).read_bytes() == b"#!/bin/sh\n# \xff\nrsync --sparse -a /srv/images/ /b\n"
