"""`reclaim inventory`: init, check, explain, schema, on libvirt's test driver."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from reclaim.__main__ import main
from reclaim.base.nearest import nearest
from reclaim.handles import hypervisor
from reclaim.handles.hypervisor import Hypervisor
from reclaim.inventories import checked, schema, starter, verbs
from reclaim.inventory import Inventory, Policy, read_file, read_inventory
from reclaim.requirement import catalogue
from tests.support import ROOT, Inside, disk_xml, domain_xml, hypervisor_of, inhabited, node, opened


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return node(tmp_path, *(domain_xml(disk_xml(), name=name) for name in ("db1", "web1", "web2")))


def written(folder: Path, text: str) -> str:
    path = folder / "inventory.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def uncommented(text: str) -> str:
    """*text* with each setting that is a comment."""
    return re.sub(r"^#(?=[^ :\n])", "", text, flags=re.MULTILINE)


def test_hosts_are_a_list_with_blanks_as_in_a_run(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts: list[str | None] = []

    def connect(_uri: str | None, host: str | None, inventory: Inventory, *, readonly: bool) -> Hypervisor:
        hosts.append(host)
        return hypervisor.connect(uri, None, inventory, readonly=readonly)

    monkeypatch.setattr(verbs, "connect", connect)
    assert main(["inventory", "check", written(tmp_path, ""), "--hosts", "ssh://a, ssh://b,,"]) == 0
    assert hosts == ["ssh://a", "ssh://b"]
    assert "6 guests of test-driver, test-driver" in capsys.readouterr().out


@pytest.mark.parametrize("words", [("schema",), ("init",), ("explain", "web1")])
def test_an_output_that_takes_nothing_is_one_line(tmp_path: Path, uri: str, words: tuple[str, ...]) -> None:
    written(tmp_path, "")
    given = [] if words[0] == "schema" else ["--uri", uri]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "reclaim", "inventory", *words, *given],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.stderr == "reclaim: the output cannot be written: No space left on device\n"


# init -----------------------------------------------------------------------------------------


def test_init_writes_comments_and_each_of_them_is_a_setting_that_is_read(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inventory", "init", "--uri", uri]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"#:schema ./{schema.NAME}\n")
    assert read_inventory(Path(written(tmp_path, text)), catalogue()) == Inventory()
    whole = read_inventory(Path(written(tmp_path, uncommented(text))), catalogue())
    assert whole.policy == Policy()
    assert whole.policy.model_fields_set == set(Policy.model_fields)
    assert list(whole.guest) == ["*", "db1", "web1", "web2"]
    assert (len(whole.ssh), len(whole.window), len(whole.backup)) == (1, 1, 1)
    assert text.count("# could not be looked into: libvirt's test driver") == 3
    assert max(len(line) for line in text.splitlines() if uri not in line) <= 120


def test_init_names_the_guests_that_could_not_be_looked_into(tmp_path: Path) -> None:
    guest = inhabited(tmp_path, Inside(), disk_xml())
    text = starter.text(hypervisor_of(guest))
    assert text.endswith("\n\n#[guest.one]\n")
    off = opened(tmp_path, domain_xml(disk_xml(), name="off", running=False))
    off.guests[0].unstarted = ""
    assert "# could not be looked into: " in starter.text(off)


@pytest.mark.parametrize("name", ["web.1", "a b", 'say "hi"', "ünï", "back\\slash", "[x]*", "#", "-"])
def test_init_writes_the_name_of_each_guest_as_toml_has_it(tmp_path: Path, name: str) -> None:
    xml = domain_xml(disk_xml(), name=name.replace('"', "&quot;"))
    text = starter.text(opened(tmp_path, xml))
    read = read_inventory(Path(written(tmp_path, uncommented(text))))
    assert list(read.guest) == ["*", name]


def test_init_never_writes_over_a_file(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.toml"
    assert main(["inventory", "init", "--uri", uri, "--output", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert not stat.S_IMODE(path.stat().st_mode) & 0o022
    assert read_inventory(path) == Inventory()
    path.write_text("mine")
    link = tmp_path / "link.toml"
    link.symlink_to(tmp_path / "nowhere")
    for taken in (path, link):
        assert main(["inventory", "init", "--uri", uri, "--output", str(taken)]) == 2
        assert capsys.readouterr().err.startswith(f"reclaim: --output {taken}: it is there already")
    assert path.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert main(["inventory", "init", "--uri", uri, "--output", str(tmp_path / "no/x.toml")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


# check ----------------------------------------------------------------------------------------


def test_check_of_a_good_file(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, '[guest."web*"]\nthick = true\n[[ssh]]\nguests = ["db1"]\n')
    assert main(["inventory", "check", path, "--uri", uri]) == 0
    assert capsys.readouterr().out == f"{path}: no mistakes; 3 guests of test-driver\n"
    assert main(["inventory", "check", path, "--no-guests", "--uri", "test:///nowhere"]) == 0


def test_check_finds_the_file_in_the_folder(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inventory", "check", "--uri", uri]) == 2
    assert capsys.readouterr().err == "reclaim: inventory inventory.toml: No such file or directory\n"
    written(tmp_path, "")
    assert main(["inventory", "check", "--uri", uri]) == 0


def test_check_lists_every_mistake(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "[polcy]\n[policy]\nboot_seconds = 0\n[guest.a.waive]\nfoo = 'it is old'\n")
    assert main(["inventory", "check", path, "--uri", uri]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(f"inventory {path}, line " in line for line in lines)


def test_check_lists_the_things_to_look_at(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    today = date.today()  # noqa: DTZ011 - as the machine's clock has it
    text = f"""\
[guest.wbe1]
thick = true
[guest.far]
on = ["kvm9"]
[guest."web*".waive]
disk-bus = {{ reason = "replaced in spring", until = {today - timedelta(1)} }}
disc-max = {{ reason = "replaced in autumn", until = {today + timedelta(14)} }}
fstab-uuid = {{ reason = "replaced some day", until = {today + timedelta(15)} }}
[guest.gone.waive]
disk-bus = {{ reason = "it is gone", until = {today} }}
[[ssh]]
guests = ["web*", "nothere*"]
[[ssh]]
guests = ["web1"]
user = "never"
[[window]]
from = "22:00"
to = "22:07"
zone = "UTC"
[[backup]]
path = "{tmp_path}"
job = "{tmp_path}/job"
"""
    path = written(tmp_path, text)
    soon, waivers = today + timedelta(14), 'for web* ([guest."web*".waive.'
    assert main(["inventory", "check", path, "--uri", uri]) == 1
    expected = [
        "[guest.wbe1], line 1: wbe1 meets no guest of test-driver (did you mean web1?)",
        "[guest.gone], line 9: gone meets no guest of test-driver",
        "[[ssh]].guests, line 12: nothere* meets no guest of test-driver",
        f"the waiver of disk-bus {waivers}disk-bus], line 6) ended on {today - timedelta(1)}: replaced in spring",
        f"the waiver of disc-max {waivers}disc-max], line 7) ends on {soon}, in 14 days: replaced in autumn",
        "[[ssh]], line 13: it never counts: each of its guests has an earlier [[ssh]] or a table of its own",
        f"[[backup]].job, line 22: {tmp_path}/job: there is no such file or folder",
    ]
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == expected
    assert last.startswith("[[window]], line 16: it is shorter than a power cycle may take: 480 s, by shutdown_seconds")


def test_check_names_an_address_that_does_not_resolve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[guest.a.ssh]\naddress = "web1.invalid"\n[guest.b.ssh]\naddress = "localhost"\n')
    monkeypatch.setattr(checked, "_is_resolved", lambda address: address == "localhost")
    assert checked.remarks(read_file(Path(path)), []) == [
        "[guest.a.ssh.address], line 2: web1.invalid cannot be reached: this machine knows no such host name"
    ]


def test_the_address_of_this_machine_resolves() -> None:
    assert checked._is_resolved("127.0.0.1")
    assert checked._is_resolved("localhost")


# explain --------------------------------------------------------------------------------------


TEXT = """\
[policy]
boot_seconds = 600
[guest."*".waive]
disk-bus = "of all"
[guest."web*"]
pull_plug = true
ssh = { user = "admin" }
waive.disk-bus = { reason = "of web", until = 2020-01-31 }
[guest.web1.ssh]
port = 2222
[[ssh]]
guests = ["db*"]
sudo = true
[[window]]
on = ["test-*"]
from = "22:00"
to = "04:00"
zone = "UTC"
"""


def explained(path: str, guest: str, *more: str) -> int:
    return main(["inventory", "explain", guest, "--inventory", path, *more])


def test_explain_has_each_key_its_value_and_its_line(
    tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, TEXT)
    assert explained(path, "web1", "--uri", uri) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == f"web1 on test-driver, by {path}"
    table = [re.split(r" {2,}", line.strip()) for line in lines]
    assert table[:8] == [
        ["thick", "as its images are", "default"],
        ["ssh.port", "2222", "[guest.web1.ssh.port], line 10"],
        ["pull_plug", "true", '[guest."web*".pull_plug], line 6'],
        ["ssh.user", '"admin"', '[guest."web*".ssh.user], line 7'],
        ["waive.disk-bus", "of web (until 2020-01-31, which is past)", '[guest."web*".waive.disk-bus], line 8'],
        ["window", "every day 22:00-04:00 UTC", "[[window]], line 14"],
        ["policy.bus", '"scsi"', "default"],
        ["policy.machine", '"newest"', "default"],
    ]
    assert ["policy.boot_seconds", "600", "[policy.boot_seconds], line 2"] in table
    assert len(table) == 6 + len(Policy.model_fields) - 1


def test_explain_of_other_guests(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, TEXT)
    assert explained(path, "db1", "--uri", uri) == 0
    assert re.search(r"ssh\.sudo +true +\[\[ssh\]\]\.sudo, line 13", capsys.readouterr().out)
    assert explained(path, "mail", "--on", "kvm1") == 0
    out = capsys.readouterr().out
    assert out.startswith("mail on kvm1, by ")
    assert re.search(r"window +any time +default", out)
    assert re.search(r"ssh +no +default", out)


def test_explain_of_a_guest_that_is_not_here(tmp_path: Path, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(written(tmp_path, TEXT), "wbe1", "--uri", uri) == 2
    line = "reclaim: no guest of test-driver is called wbe1 (did you mean web1?); for a guest of another hypervisor"
    assert capsys.readouterr().err.startswith(line)


# schema ---------------------------------------------------------------------------------------


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inventory", "schema"]) == 0
    assert capsys.readouterr().out == schema.text()


# Names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "close"),
    [
        ("boot_second", ["boot_seconds", "look_seconds"], "boot_seconds"),
        ("Boot-Seconds", ["boot_seconds"], "boot_seconds"),
        ("saturday", ["mon", "sat"], "sat"),
        ("vienna", ["Europe/Vienna"], "Europe/Vienna"),
        ("x", ["policy"], None),
        ("", ["policy"], None),
        ("policy" * 100_000, ["policy"], "policy"),
    ],
)
def test_the_nearest_name(name: str, known: list[str], close: str | None) -> None:
    assert nearest(name, known) == close
