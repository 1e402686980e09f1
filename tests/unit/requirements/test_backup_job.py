"""backup-job: the check and the fixer as a pair, for every format that a job comes in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reclaim.backups.job import Job, declared
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.engine import undo
from reclaim.engine.engine import Subject, judge
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventory import BackupNotes
from tests.filesystems import run
from tests.support import disk_xml, domain_xml, engine, opened, requirement

IMAGE = "/srv/images/web.qcow2"
#: what the checks take rsync to be
MODERN, OLD, OLDEST = "3.4.1", "3.2.7", "3.1.2"


@pytest.fixture(autouse=True)
def rsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An rsync that says to be a modern one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin")
    return says_version(folder / "rsync", MODERN)


def says_version(program: Path, version: str) -> Path:
    program.write_text(f"#!/bin/sh\necho 'rsync  version {version}  protocol version 31'\n")
    program.chmod(0o755)
    return program


def hypervisor(folder: Path, *, running: bool = False) -> Hypervisor:
    return opened(folder, domain_xml(disk_xml(source=IMAGE), running=running))


def job(folder: Path, text: str, name: str, **notes: object) -> tuple[Hypervisor, Job]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    owner = hypervisor(folder)
    (one,) = declared(owner, [BackupNotes.model_validate({"job": path, **notes})])
    return owner, one


def judged(one: Job) -> Judgement:
    return judge(requirement("backup-job"), Subject(one.hypervisor, job=one))


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
    program.write_text(f"#!/bin/sh\ntouch {ran}\necho 'rsync  version {MODERN}  protocol version 31'\n")
    program.chmod(0o755)
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


def running(folder: Path, text: str) -> Job:
    (folder / "backup.sh").write_text(text)
    owner = hypervisor(folder, running=True)
    return declared(owner, [BackupNotes(job=folder / "backup.sh")])[0]


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


@pytest.mark.parametrize(
    "before",
    [
        "virsh snapshot-create-as one b --disk-only --atomic",
        "virsh -c qemu:///system shutdown one",
        "virsh suspend one && virsh domblklist one",
        "systemctl stop libvirt-guests",
    ],
)
def test_a_guest_that_holds_still_is_copied(tmp_path: Path, before: str) -> None:
    assert judged(running(tmp_path, f"#!/bin/sh\n{before}\nrsync -aS /srv/images/ /b\n")).verdict is Verdict.COMPLIANT


def test_what_can_be_mended_is_and_the_rest_is_still_told(tmp_path: Path) -> None:
    one = running(tmp_path, "#!/bin/sh\nrsync -a /srv/images/ /b\n")
    result = engine(one.hypervisor, tmp_path).run(requirement("backup-job"), Subject(one.hypervisor, job=one))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "inconsistent" in result.reason
    assert Path(one.path).read_text() == "#!/bin/sh\nrsync --sparse -a /srv/images/ /b\n"


# Other tools, and what cannot be told ---------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        (f"cp --sparse=always {IMAGE} /b", Verdict.COMPLIANT, "cp keeps"),
        (f"cp --sparse=never {IMAGE} /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("cp -a --sparse=never /srv/images/. /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("rsync -a --exclude=/srv /srv/images/. /b", Verdict.NONCOMPLIANT, "without --sparse"),
        ("rsync -a --exclude=/web.qcow2 /srv/images/. /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -czf /b/vm.tgz /srv/images", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/vm.tar --sparse /srv/images", Verdict.COMPLIANT, "tar --sparse"),
        ("tar -cf /b/all.tar --exclude=/srv/images /", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude '*.qcow2' /srv", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude=/images --exclude=b.qcow2 /srv", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/all.tar -X /etc/not /", Verdict.NOT_ASSESSABLE, "its list of exclusions"),
        (f"dd if={IMAGE} of=/b/web bs=1M", Verdict.NONCOMPLIANT, "dd without conv=sparse"),
        (f"qemu-img convert -O qcow2 {IMAGE} /b/web.qcow2", Verdict.COMPLIANT, "leaves zeros out"),
        (f"qemu-img convert -S 0 -O raw {IMAGE} /b/web.raw", Verdict.NONCOMPLIANT, "-S 0"),
        ("virtnbdbackup -d one -l full -o /b", Verdict.COMPLIANT, "stream"),
        ("virtnbdbackup -d one -t raw -o /b", Verdict.NONCOMPLIANT, "--type raw"),
        ("borg create /b::x /srv/images", Verdict.NOT_ASSESSABLE, "borg extract --sparse"),
        ("restic -r /b backup /srv/images", Verdict.NOT_ASSESSABLE, "restic restore --sparse"),
        ("rsync -a /etc/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies a guest's image"),
        ("rsync -n -a /srv/images/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("echo rsync", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync $OPTIONS /srv/images/ /b", Verdict.NOT_ASSESSABLE, "put together when it runs"),
        ('rsync "$@"', Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync -a --inplace -S /srv/images/ kvm2:/b", Verdict.NOT_ASSESSABLE, "at the other end"),
        ("/usr/local/bin/backup.sh 'unclosed", Verdict.NOT_ASSESSABLE, "cannot be parsed as shell"),
        ("bash /usr/local/bin/backup.sh", Verdict.NOT_ASSESSABLE, "/usr/local/bin/backup.sh, which cannot be read"),
        ("find /srv/images -exec rsync -a {} /b \\;", Verdict.NONCOMPLIANT, "rsync without --sparse"),
        ('eval "rsync -a /srv/images/ /b"', Verdict.NONCOMPLIANT, "rsync without --sparse"),
    ],
)  # fmt: skip
def test_other_commands(tmp_path: Path, command: str, verdict: Verdict, words: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\n{command}\n", "backup.sh")
    found = judged(one)
    assert found.verdict is verdict
    assert words in found.reason + found.evidence


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/srv/images", "/"),
        ("--exclude /srv/images/", "/"),
        ("--exclude='*.qcow2'", "/srv/images"),
        ("--exclude=images/**", "/srv/"),
        ("--exclude=/images", "/srv/"),
        ("--exclude=/srv/images", "/srv"),
        ("-aR --exclude=/srv/im?ges/***", "/srv"),
        ("-f '- images/*'", "/srv"),
        ("--filter='exclude images'", "/srv"),
        ('--exclude={"/dev/*","/srv/*"}', "/"),
        ("--include=/srv/ --exclude='/s*/images' --exclude-from=/etc/rules", "/"),
    ],
)
def test_images_that_rules_leave_out_are_not_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert "no command in it copies a guest's image" in judged(one).reason


@pytest.mark.parametrize(
    ("rules", "source"),
    [
        ("--exclude=/images", "/"),
        ("--exclude=/srv/images", "/srv/"),
        ("--exclude=images/", "/srv/images/"),
        ("--exclude=web.qcow2/", "/srv/images"),
        ("--exclude='/*.qcow2'", "/srv"),
        ("--include=images --include=web.qcow2 --exclude='*'", "/srv/"),
    ],
)
def test_images_that_rules_do_not_leave_out_are_copied(tmp_path: Path, rules: str, source: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} {source} /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT


@pytest.mark.parametrize("rules", ["--exclude-from=/etc/rules", "-F", "-f '. /etc/rules'", "--exclude='[w]eb*'"])
def test_rules_that_cannot_be_read_are_told(tmp_path: Path, rules: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\nrsync -a {rules} / /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NOT_ASSESSABLE
    assert "line 2: rsync: whether its filter rules leave out the images is not judged" in judged(one).reason


def test_rsnapshot_s_cron_table_is_not_its_configuration(tmp_path: Path) -> None:
    text = "0 */4\t* * *\troot\t/usr/bin/rsnapshot alpha\n"
    _, one = job(tmp_path, text, "cron.d/rsnapshot")
    assert judged(one).reason.endswith(
        "line 1: it runs rsnapshot: declare its configuration, /etc/rsnapshot.conf, as the job"
    )


def test_rsnapshot_has_rules_of_its_own(tmp_path: Path) -> None:
    text = "snapshot_root\t/b/\nexclude\t/srv/images/\nbackup\t/\tlocalhost/\n"
    _, one = job(tmp_path, text, "rsnapshot.conf")
    assert "no command in it copies a guest's image" in judged(one).reason


def test_an_option_of_a_bundle_or_after_the_paths_counts(tmp_path: Path) -> None:
    _, one = job(tmp_path, "#!/bin/sh\nrsync -vaSe 'ssh -S x' /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a -e S /srv/images/ /b\n", "backup.sh")
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    _, one = job(tmp_path, "#!/bin/sh\nrsync -a /srv/images/ /b --sparse\n", "backup.sh")
    assert judged(one).verdict is Verdict.COMPLIANT


def test_a_timer_says_when_and_not_what(tmp_path: Path) -> None:
    _, one = job(tmp_path, "[Timer]\nOnCalendar=daily\n", "backup.timer")
    assert "declare backup.service" in judged(one).reason


# Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "verdict", "words"),
    [
        (None, Verdict.ERROR, "no such file"),
        (b"\x7fELF\0\0", Verdict.NOT_ASSESSABLE, "a program"),
        (b"#" * 600_000, Verdict.NOT_ASSESSABLE, "more than 524288 bytes"),
        (b"#!/bin/sh\nrsync -a \xff\xfe /srv/images/ /b\n", Verdict.NONCOMPLIANT, "without --sparse"),
        (b"", Verdict.NOT_ASSESSABLE, "no command in it"),
    ],
)
def test_bad_files_are_told_in_one_line(tmp_path: Path, content: bytes | None, verdict: Verdict, words: str) -> None:
    path = tmp_path / 'it\'s a "job".sh'
    if content is not None:
        path.write_bytes(content)
    owner = hypervisor(tmp_path)
    found = judged(declared(owner, [BackupNotes(job=path)])[0])
    assert found.verdict is verdict
    assert words in found.reason
    assert "\n" not in found.reason


def test_bytes_that_are_no_utf8_survive_the_edit(tmp_path: Path) -> None:
    owner, one = job(tmp_path, "", "backup.sh")
    Path(one.path).write_bytes(b"#!/bin/sh\n# \xff\nrsync -a /srv/images/ /b\n")
    mend(tmp_path, owner, one)
    assert Path(one.path).read_bytes() == b"#!/bin/sh\n# \xff\nrsync --sparse -a /srv/images/ /b\n"


def test_a_job_declared_twice_is_judged_once(tmp_path: Path) -> None:
    owner = hypervisor(tmp_path)
    path = tmp_path / "backup.sh"
    both = [BackupNotes(job=path, images=["/a.img"]), BackupNotes(job=path, images=["/b.img"])]
    (one,) = declared(owner, both)
    assert [notes.images for notes in one.notes] == [["/a.img"], ["/b.img"]]


@pytest.mark.parametrize(
    ("command", "verdict"),
    [
        ("rsync -a {0}/now/ /backup/", Verdict.NONCOMPLIANT),
        ("rsync -a {0}/now/web.qcow2 /backup/", Verdict.NONCOMPLIANT),
        ("rsync -a {0}/now /backup/", Verdict.NOT_ASSESSABLE),  # the link itself is copied
        ("cp --sparse=never {0}/disk /backup/", Verdict.NONCOMPLIANT),
        ("cp -a --sparse=never {0}/disk /backup/", Verdict.NOT_ASSESSABLE),
        ("rsync -a --exclude='*.qcow2' {0}/now/ /backup/", Verdict.NOT_ASSESSABLE),
    ],
)
def test_a_source_behind_a_symbolic_link(command: str, verdict: Verdict, tmp_path: Path) -> None:
    (tmp_path / "now").symlink_to("/srv/images")
    (tmp_path / "disk").symlink_to(IMAGE)
    _, one = job(tmp_path, f"#!/bin/sh\n{command.format(tmp_path)}\n", "copy.sh")
    assert judged(one).verdict is verdict
