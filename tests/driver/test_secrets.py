"""No secret is in what a run shows or leaves, but in its journal, which is for its owner alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import ROOT, Outcome, audit
from tests.driver import secretive
from tests.driver.secretive import filled, kinds, marker
from tests.support import disk_xml, domain_xml, node

DEFINITION = """\
<title>\x01title\x02</title><description>\x01description\x02</description>
<sysinfo type='smbios'><oemStrings><entry>io.systemd.credential:x=\x01oem-string\x02</entry></oemStrings></sysinfo>
<launchSecurity type='sev'><policy>0x1</policy>
<dhCert>\x01dh\x02</dhCert><session>\x01sev\x02</session></launchSecurity>
"""
DISKS = """\
<disk type='network' device='disk'><driver name='qemu' type='qcow2'/>
<source protocol='https' name='d/\x01web-path\x02/x' query='token=\x01web-query\x02'><host name='h' port='443'/>
<cookies><cookie name='a'>\x01cookie\x02</cookie></cookies></source><target dev='vdb' bus='virtio'/></disk>
<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<auth username='\x01auth-user\x02'><secret type='ceph' usage='\x01auth-usage\x02'/></auth>
<source protocol='rbd' name='pool/image'><host name='h' port='443'/></source><target dev='vdc' bus='virtio'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/x'>
<encryption format='luks'><secret type='passphrase' usage='\x01luks\x02'/></encryption></source>
<target dev='vdd' bus='virtio'/></disk>
<graphics type='vnc' passwd='\x01vnc\x02' port='5901'/><graphics type='spice' passwd='\x01spice\x02' port='5903'/>
<interface type='network'><source network='default'/>
<filterref filter='f'><parameter name='KEY' value='\x01filter\x02'/></filterref></interface>
<serial type='tcp'><source mode='connect' host='\x01serial\x02' service='9999'/><protocol type='raw'/>
<target port='0'/></serial>
<interface type='direct'><source dev='eth0' mode='vepa'/>
<virtualport type='802.1Qbh'><parameters profileid='\x01profile\x02'/></virtualport></interface>
<rng model='virtio'><backend model='egd' type='tcp'>
<source mode='connect' host='\x01rng\x02' service='1'/></backend></rng>
"""
JOB = """\
#!/bin/sh
export RSYNC_PASSWORD=\x01rsync\x02
RESTIC_PASSWORD='\x01restic\x02' BORG_PASSPHRASE="\x01borg\x02" BORG_PASSCOMMAND="echo \x01borg-command\x02" true
MYSQL_PWD=\x01mysql\x02 mysqldump -p'\x01mysql-option\x02' db >/dump
rsync -e "sshpass -p '\x01on-the-line\x02' ssh" -a /srv/images/ backup:\x01user-info\x02@nas:/images
curl -H "X-Token: \x01header\x02" https://hooks.example/\x01web-hook\x02
cat >/root/.pgpass <<EOF
h:5432:db:u:\x01here-document\x02
EOF
# \x01comment\x02
"""
CRON = """\
MAILTO=root
TOKEN=\x01above\x02
0 3 * * * root RCLONE_PASS=\x01before\x02 rsync -a /srv/images/ /x && curl -fsS https://ping.example/\x01behind\x02
"""
INVENTORY = """\
[[backup]]
path = "FOLDER"
job = "FOLDER/job"
[[backup]]
path = "FOLDER"
job = "FOLDER/cron.d/backup"
[guest.two.waive]
disk-bus = "until the vault (token=\x01waiver\x02) is moved"
"""
ARGUMENTS = [
    *("--metadata", "api_token", marker("argument-metadata")),
    *("--metadata-from-json", json.dumps({"ci": {"db_password": marker("argument-json")}})),
    *("--metadata", "mirror", f"https://u:{marker('argument-mirror')}@h/"),
]
ENVIRONMENT = {
    "BUILD_URL": f"https://u:{marker('environment-build')}@ci/1",
    "JENKINS_URL": f"https://{marker('environment-jenkins')}@ci/",
    "CI_JOB_TOKEN": marker("environment-token"),
}
KINDS = [
    *kinds(DEFINITION, "definition"),
    *kinds(DISKS, "disk"),
    *kinds(JOB, "job"),
    *kinds(CRON, "cron"),
    *kinds(INVENTORY, "inventory"),
    *kinds(secretive.FSTAB, "fstab"),
    *kinds(secretive.GRUB, "grub"),
    *kinds(secretive.GRUB_CFG, "menu"),
    *kinds(secretive.SWAP_UNIT, "unit"),
    *kinds(secretive.ERRORS, "error"),
    *(f"argument-{name}" for name in ("metadata", "json", "mirror")),
    *(f"environment-{name}" for name in ("build", "jenkins", "token")),
    *(f"backing-{name}" for name in ("url", "password")),
    *(f"wrong-{name}" for name in ("copy", "key", "address", "host", "syntax")),
    *(f"address-{name}" for name in ("user", "query", "host")),
    *(f"fault-{name}" for name in ("argument", "variable", "words")),
]
_UNDO = """\
import sys
from tests.driver import secretive
secretive.install()
from reclaim.__main__ import main
sys.exit(main())
"""


@dataclass(frozen=True)
class Said:
    """All that came out: on terminals, and in files by name."""

    runs: dict[str, Outcome]
    texts: dict[str, str]
    journal: Path


def _uri(folder: Path) -> str:
    """The address of a node of two guests; libvirt's test driver takes a user and a query."""
    one = domain_xml(disk_xml(source="/srv/images/vda.qcow2"), filled(DISKS, "disk"), name="one")
    one = one.replace("<memory>", filled(DEFINITION, "definition") + "<memory>")
    two = domain_xml(disk_xml(source=str(_overlay(folder))), name="two")
    path = node(folder, one, two).removeprefix("test://")
    return f"test://u:{marker('address-user')}@{path}?password={marker('address-query')}"


def _overlay(folder: Path) -> Path:
    """An image whose backing file is on a web server, and for which one needs a password."""
    path = folder / "overlay.qcow2"
    url, password = f"https://u:{marker('backing-url')}@h/x", marker("backing-password")
    options = {"driver": "https", "url": url, "password": password}
    backing = f"json:{json.dumps({'driver': 'raw', 'file': options})}"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "raw", str(path), "1M"]
    subprocess.run(argv, check=True, timeout=60)
    return path


def _call(*words: str, undo: bool = False) -> str:
    argv = [sys.executable, *(["-c", _UNDO] if undo else ["-m", "reclaim"]), *words]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """Everything is run under umask 000, with every option of pytest's that makes it talk."""
    folder = tmp_path_factory.mktemp("secrets")
    before = os.umask(0)
    try:
        return _run_all(folder, _uri(folder))
    finally:
        os.umask(before)


def _run_all(folder: Path, uri: str) -> Said:
    inputs = folder / "inputs"
    inputs.mkdir()
    inputs.chmod(0o700)  # an inventory that others can write is not obeyed
    (inputs / "job").write_text(filled(JOB, "job"))
    (inputs / "cron.d").mkdir()
    (inputs / "cron.d/backup").write_text(filled(CRON, "cron"))
    inventory = inputs / "inventory.toml"
    inventory.write_text(filled(INVENTORY.replace("FOLDER", str(inputs)), "inventory"))
    inventory.chmod(0o600)
    talkative = ["-p", "tests.driver.secretive", "--inventory", str(inventory), "-rA", "--showlocals", "--tb=long"]
    talkative += ["--full-trace", "--log-level=DEBUG", *ARGUMENTS]
    runs: dict[str, Outcome] = {}
    texts: dict[str, str] = {}
    for name, more, env in (
        ("audit", ["-vv", f"--log-file={folder}/log", "--log-file-level=DEBUG"], {}),
        ("plan", ["--plan", "--force", "--json", f"--metrics={folder}/prom", f"--junitxml={folder}/junit.xml"], {}),
        ("debug", [f"--debug={folder}/debug.log"], {}),
        ("fault", ["-vvv", "-s"], {"RECLAIM_TEST_FAULT": "1"}),
        ("fix", ["--fix", "--force", "-v"], {}),
        ("hosts", ["--hosts", f"ssh://root:{marker('address-host')}@127.0.0.1:1"], {}),
        ("static", ["-p", "no:html"], {"LIBVIRT_DEFAULT_URI": uri}),
    ):
        where = uri if name != "static" else None
        runs[name] = one = audit(folder / name, *talkative, *more, uri=where, env={**ENVIRONMENT, **env})
        assert one.status == 1, one.said
        texts[f"{name} says"] = one.said
    journal = runs["fix"].folder / "journal.jsonl"
    audited, planned, fixed = (str(runs[name].folder) for name in ("audit", "plan", "fix"))
    texts["undo says"] = _call("undo", fixed, undo=True)
    texts["report says"] = _call("report", fixed) + _call("report", fixed, planned, "--output", f"{folder}/all.html")
    texts["diff says"] = _call("diff", audited, fixed) + _call("diff", fixed, planned)
    texts["index says"] = _call("index", str(folder / "fix"))
    unreached = audit(folder / "unreached", uri=f"qemu+ssh://u:{marker('address-host')}@127.0.0.1:1/system")
    assert unreached.status == 4
    texts["unreached says"] = unreached.said
    texts["verify says"] = _call("verify-backup", f"https://u:{marker('wrong-copy')}@h/x", "--uri", uri)
    texts |= _refused(folder, uri)
    for path in folder.rglob("*"):
        given = inputs in path.parents or path.name in ("node.xml", "overlay.qcow2", "wrong.toml")
        if path.is_file() and not given and path != journal:
            texts[str(path.relative_to(folder))] = path.read_text(encoding="utf-8")
    return Said(runs, texts, journal)


def _refused(folder: Path, uri: str) -> dict[str, str]:
    """What is said of an inventory, and of options, that are wrong where a secret stands."""
    said = {}
    inventory = folder / "wrong.toml"
    for name, text in (
        ("key", '[[ssh]]\nguests = ["one"]\npassword = "MARKER"\n'),
        ("address", '[guest.one.ssh]\naddress = "u:MARKER@h ost"\n'),
        ("syntax", '[[ssh]]\npassword = "MARKER\n'),
    ):
        inventory.write_text(text.replace("MARKER", marker(f"wrong-{name}")))
        inventory.chmod(0o600)
        outcome = audit(folder / "wrong", "--inventory", str(inventory), uri=uri)
        assert outcome.status == 4
        said[f"wrong {name} says"] = outcome.said
    outcome = audit(folder / "wrong", "--hosts", f"docker://u:{marker('wrong-host')}@h", uri=None)
    assert outcome.status == 4
    return {**said, "wrong host says": outcome.said}


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_shown_nowhere(said: Said, kind: str) -> None:
    assert [name for name, text in said.texts.items() if marker(kind) in text] == []


def test_the_kinds_are_many_and_each_has_its_own_marker() -> None:
    assert len(KINDS) >= 60
    assert len({marker(kind) for kind in KINDS}) == len(KINDS)


def test_it_was_all_there_to_be_shown(said: Said) -> None:
    """The journal has what was changed, whole; the reports have the rows, the diffs, the errors."""
    book = said.journal.read_text(encoding="utf-8")
    for kind in ("disk-vnc", "job-rsync", "cron-above", "fstab-ceph", "grub-netroot", "unit-comment", "address-user"):
        assert marker(kind) in book, kind
    plan = said.texts["plan says"]
    for line in (
        "-/dev/vda5 none swap sw,… 0 0",
        "+UUID=aaaa-5 none swap sw,… 0 0",
        "resume=UUID=aaaa-5 …",
        "+What=/dev/disk/by-uuid/aaaa-5",
        "+rsync --sparse -e",
    ):
        assert line in plan
    errors = "\n".join(row["reason"] or "" for row in said.runs["fix"].document["results"])
    assert "update-initramfs -u -k all ended with status 1" in errors
    assert "PGPASSWORD=(redacted) AWS_SECRET_ACCESS_KEY=(redacted)" in errors
    assert "a fault in reclaim: RuntimeError: password=(redacted)" in said.texts["fault says"]
    assert "secretive.py" in said.texts["fault says"]
    assert "inputs/job is as it was" in said.texts["undo says"]


def test_the_next_command_keeps_all_but_the_secret(said: Said) -> None:
    (line,) = (line for line in said.texts["hosts says"].splitlines() if line.startswith("next:"))
    assert "'ssh://root:(redacted)@127.0.0.1:1'" in line
    assert "ssh://root:(redacted)@127.0.0.1:1" in said.runs["hosts"].document["run"]["arguments"]


def test_modes_do_not_hang_on_the_umask(said: Said) -> None:
    """It was 000."""
    for name, one in said.runs.items():
        for path in (one.reports, *one.reports.rglob("*")):
            if not path.is_symlink():
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode == (0o700 if path.is_dir() else 0o600), (name, path, oct(mode))
    top = said.runs["fix"].reports.parent
    assert stat.S_IMODE((top / "prom").stat().st_mode) == 0o644
    assert stat.S_IMODE((top / "debug.log").stat().st_mode) == 0o600
    assert stat.S_IMODE((top / "all.html").stat().st_mode) == 0o666  # asked for by name: the umask's


@pytest.mark.parametrize("slug", ["disk-discard", "scsi-controller", "disk-bus"])
def test_nothing_that_a_fixer_brings_is_masked(tmp_path: Path, slug: str) -> None:
    outcome = audit(tmp_path, "--plan", "--force")
    diffs = [c["diff"] for row in outcome.document["results"] if row["requirement"] == slug for c in row["changes"]]
    come = [line for diff in diffs for line in diff.splitlines() if line.startswith("+")]
    assert come
    assert not [line for line in come if "…" in line]
