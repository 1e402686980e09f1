"""backup-trim: the check and the fixer as a pair, for every format that a job comes in."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.backups.job import Job, declared
from reclaim.base.verdict import Judgement, Result, Verdict
from reclaim.changes import domfstrim
from reclaim.engine.engine import Subject, judge
from reclaim.inventory import BackupNotes
from tests.support import disk_xml, domain_xml, engine, opened, requirement, uuid_of

if TYPE_CHECKING:
    from reclaim.handles.hypervisor import Hypervisor

TRIM = "timeout 900 /usr/bin/virsh --connect qemu:///system domfstrim {}"


@pytest.fixture(autouse=True)
def virsh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domfstrim, "local_uri", lambda _hypervisor: "qemu:///system")
    monkeypatch.setattr(domfstrim, "found_virsh", lambda _hypervisor: "/usr/bin/virsh")


def fleet(folder: Path) -> Hypervisor:
    """Two guests that run, and one that is off."""
    domains = [
        domain_xml(disk_xml(source=f"/srv/images/{name}.qcow2"), name=name, running=name != "off")
        for name in ("web", "db", "off")
    ]
    return opened(folder, *domains)


def job(folder: Path, text: str, name: str = "backup.sh") -> Job:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    (one,) = declared(fleet(folder), [BackupNotes(job=path)])
    return one


def judged(one: Job) -> Judgement:
    return judge(requirement("backup-trim"), Subject(one.hypervisor, job=one))


def fix(folder: Path, one: Job, mode: Any = "fix") -> Result:
    return engine(one.hypervisor, folder, mode).run(requirement("backup-trim"), Subject(one.hypervisor, job=one))


def trim(name: str) -> str:
    return TRIM.format(uuid_of(name))


WHY = "# by reclaim: the guests give back what they have freed before it is copied\n"
#: the file's name, its text, and the text with the trims
FORMATS = {
    "script": (
        "backup.sh",
        "#!/bin/bash\nset -e\nrsync -aS /srv/images/web.qcow2 /b/\n",
        f"#!/bin/bash\n{WHY}{trim('web')} >/dev/null 2>&1 || :\nset -e\nrsync -aS /srv/images/web.qcow2 /b/\n",
    ),
    "script without a first line of its own": (
        "backup",
        "cp --sparse=always /srv/images/db.qcow2 /b/\n",
        f"{WHY}{trim('db')} >/dev/null 2>&1 || :\ncp --sparse=always /srv/images/db.qcow2 /b/\n",
    ),
    "both guests": (
        "backup.sh",
        "#!/usr/bin/env bash\nfor g in web db; do\n  virsh suspend $g\n  rsync -aS /srv/images/$g.qcow2 /b/\ndone\n",
        (
            f"#!/usr/bin/env bash\n{WHY}{trim('web')} >/dev/null 2>&1 || :\n{trim('db')} >/dev/null 2>&1 || :\n"
            "for g in web db; do\n  virsh suspend $g\n  rsync -aS /srv/images/$g.qcow2 /b/\ndone\n"
        ),
    ),
    "cron table of the system": (
        "cron.d/backup",
        (
            "MAILTO=root\n0 3 * * * root rsync -aS /srv/images/web.qcow2 /b/\n5 3 * * 0 root true\n"
            "0 4 * * 0 root rsync -aS /srv/images/web.qcow2 /w/\n"
        ),
        (
            f"MAILTO=root\n0 3 * * * root {trim('web')} >/dev/null 2>&1; rsync -aS /srv/images/web.qcow2 /b/\n"
            f"5 3 * * 0 root true\n0 4 * * 0 root {trim('web')} >/dev/null 2>&1; rsync -aS /srv/images/web.qcow2 /w/\n"
        ),
    ),
    "cron table of a user": (
        "crontabs/root",
        "@weekly rsync -aS /srv/images/db.qcow2 /b/\n",
        f"@weekly {trim('db')} >/dev/null 2>&1; rsync -aS /srv/images/db.qcow2 /b/\n",
    ),
    "unit": (
        "backup.service",
        "[Unit]\nDescription=backup\n[Service]\nType=oneshot\nExecStart=/usr/bin/rsync -aS /srv/images/web.qcow2 /b/\n",
        (
            f"[Unit]\nDescription=backup\n[Service]\nType=oneshot\n{WHY}ExecStartPre=-/usr/bin/{trim('web')}\n"
            "ExecStart=/usr/bin/rsync -aS /srv/images/web.qcow2 /b/\n"
        ),
    ),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_refused_fixed_accepted_and_not_a_byte_else(tmp_path: Path, kind: str) -> None:
    name, text, wanted = FORMATS[kind]
    one = job(tmp_path, text, name)
    beside = tmp_path / "other.sh"
    beside.write_text(text)
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    result = fix(tmp_path, one)
    assert result.verdict is Verdict.FIXED, result.reason
    assert Path(one.path).read_text() == wanted
    again = fix(tmp_path, one)
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    assert beside.read_text() == text
    if name.endswith(".sh"):
        subprocess.run(["bash", "-n", one.path], check=True)


def test_the_plan_changes_nothing(tmp_path: Path) -> None:
    name, text, _ = FORMATS["script"]
    one = job(tmp_path, text, name)
    assert "domfstrim" in fix(tmp_path, one, "plan").changes[0].diff
    assert Path(one.path).read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "virsh domfstrim web\nrsync -aS /srv/images/web.qcow2 /b/\n",
        "for g in web db; do virsh domfstrim --domain $g; done\ncp /srv/images/*.qcow2 /b/\n",
        f"virsh domfstrim {uuid_of('web')} >/dev/null\nvirsh shutdown web\nrsync -aS /srv/images/web.qcow2 /b/\n",
    ],
)
def test_a_trim_of_the_users_own_is_accepted(tmp_path: Path, text: str) -> None:
    assert judged(job(tmp_path, f"#!/bin/bash\n{text}")).verdict is Verdict.COMPLIANT


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("rsync -aS /srv/images/web.qcow2 /b/\nvirsh domfstrim web\n", id="after-the-copy"),
        pytest.param("virsh domfstrim db\nrsync -aS /srv/images/web.qcow2 /b/\n", id="another-guest"),
        pytest.param("virsh domfstrim web --mountpoint /srv\nrsync -aS /srv/images/web.qcow2 /b/\n", id="a-part-of-it"),
        pytest.param(
            "virsh -c qemu+ssh://kvm2/system domfstrim web\nrsync -aS /srv/images/web.qcow2 /b/\n", id="elsewhere"
        ),
    ],
)
def test_another_trim_does_not_count(tmp_path: Path, text: str) -> None:
    assert judged(job(tmp_path, f"#!/bin/bash\n{text}")).verdict is Verdict.NONCOMPLIANT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "if [ $1 = full ]; then virsh domfstrim web; fi\nrsync -aS /srv/images/web.qcow2 /b/\n",
            "only a run shows",
        ),
        ("rsync -aS /etc /b/\n", "knows of no running guest whose image it copies"),
        ("rsync -aS /srv/images/off.qcow2 /b/\n", "knows of no running guest whose image it copies"),
        ("frobnicate web\n", "reclaim does not know that program"),
    ],
)
def test_what_is_not_known_is_no_finding(tmp_path: Path, text: str, words: str) -> None:
    one = job(tmp_path, f"#!/bin/bash\n{text}")
    result = fix(tmp_path, one)
    assert result.verdict is Verdict.NOT_ASSESSABLE
    assert words in result.reason
    assert Path(one.path).read_text() == f"#!/bin/bash\n{text}"


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("backup.service", "[Service]\nExecStart=/usr/bin/rsync -aS /srv/images/web.qcow2 /b/\n", "by hand"),
        ("anacrontab", "7 15 backup rsync -aS /srv/images/web.qcow2 /b/\n", "by hand"),
        ("rsnapshot.conf", "snapshot_root\t/b/\nbackup\t/srv/images/\tlocal/\n", "by hand"),
    ],
)
def test_where_no_command_can_stand_before_it_is_left_to_a_person(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    one = job(tmp_path, text, name)
    result = fix(tmp_path, one)
    assert result.verdict is Verdict.NONCOMPLIANT
    assert words in result.reason
    assert Path(one.path).read_text() == text


def test_a_script_that_cron_starts_and_that_trims_for_itself_is_in_order(tmp_path: Path) -> None:
    script = tmp_path / "copy.sh"
    script.write_text("#!/bin/bash\nvirsh domfstrim web\n\nrsync -aS /srv/images/web.qcow2 /b/\n")
    one = job(tmp_path, f"0 3 * * * root {script}\n", "cron.d/backup")

    assert judged(one).verdict is Verdict.COMPLIANT


def test_a_copy_that_another_script_makes_is_mended_there(tmp_path: Path) -> None:
    script = tmp_path / "copy.sh"
    script.write_text("#!/bin/sh\nrsync -aS /srv/images/web.qcow2 /b/\n")
    one = job(tmp_path, f"0 3 * * * root {script}\n", "cron.d/backup")
    result = fix(tmp_path, one)
    assert f"{script} makes the copy: declare that file as the job" in result.reason
    assert "domfstrim" not in script.read_text()


def test_an_incremental_backup_is_not_made_larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domfstrim, "price", lambda guest: "it has 3 checkpoints" if guest.name == "web" else "")
    name, text, _ = FORMATS["both guests"]
    one = job(tmp_path, text, name)
    result = fix(tmp_path, one)
    assert "withheld: web: it has 3 checkpoints" in result.reason
    assert Path(one.path).read_text() == text


def test_without_virsh_nothing_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domfstrim, "found_virsh", lambda _hypervisor: None)
    name, text, _ = FORMATS["script"]
    assert "no virsh on the hypervisor" in fix(tmp_path, job(tmp_path, text, name)).reason


UNIT = "[Service]\nType=oneshot\n{}ExecStart=/usr/bin/rsync -aS /srv/images/web.qcow2 /b/\n"


def test_a_unit_that_stops_the_guest_first_trims_it_before_that(tmp_path: Path) -> None:
    one = job(tmp_path, UNIT.format("ExecStartPre=/usr/bin/virsh suspend web\n"), "backup.service")
    assert fix(tmp_path, one).verdict is Verdict.FIXED
    added = f"{WHY}ExecStartPre=-/usr/bin/{trim('web')}\n"
    assert Path(one.path).read_text() == UNIT.format(f"{added}ExecStartPre=/usr/bin/virsh suspend web\n")
    assert judged(one).verdict is Verdict.COMPLIANT


def test_a_unit_that_takes_its_hooks_back_is_left(tmp_path: Path) -> None:
    one = job(tmp_path, UNIT.format("ExecStartPre=\n"), "backup.service")
    assert "by hand" in fix(tmp_path, one).reason


@pytest.mark.parametrize("command", ["suspend", "shutdown", "managedsave", "domfsfreeze"])
def test_a_guest_that_does_not_run_is_not_trimmed(command: str, tmp_path: Path) -> None:
    text = f"#!/bin/bash\nvirsh {command} web\nvirsh domfstrim web\nrsync -aS /srv/images/web.qcow2 /b/\n"
    one = job(tmp_path, text)
    assert judged(one).verdict is Verdict.NONCOMPLIANT
    assert fix(tmp_path, one).verdict is Verdict.FIXED
    assert judged(one).verdict is Verdict.COMPLIANT


def test_a_guest_that_runs_again_is_trimmed(tmp_path: Path) -> None:
    text = "#!/bin/bash\nvirsh suspend web\nvirsh resume web\nvirsh domfstrim web\ncp /srv/images/web.qcow2 /b/\n"
    assert judged(job(tmp_path, text)).verdict is Verdict.COMPLIANT
