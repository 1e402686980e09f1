"""Journals that somebody else wrote, or that say what no fixer of ours makes: not one is obeyed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from reclaim.__main__ import main
from reclaim.base.errors import ChangeFailed, ReclaimError, Untrusted
from reclaim.changes.change import Change
from reclaim.changes.command import CommandChange
from reclaim.changes.definition_change import DefinitionChange
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.changes.power import PowerCycle
from reclaim.changes.punch import HolePunch
from reclaim.changes.sparsify import Sparsify
from reclaim.changes.trim import Trim
from reclaim.engine import journal
from reclaim.engine.journal import Journal
from reclaim.engine.undo import undo
from reclaim.files import trust
from tests.command import FLEET, audit
from tests.support import disk_xml, domain_xml, executable, node, opened, uuid_of

NOBODY = 65534
#: all connections of one process share this driver; the query is only for a lock of our own
SHARED = f"test:///default?obeyed-{os.getpid()}"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


def _begin(uri: str = SHARED) -> dict[str, Any]:
    return {"event": "begin", "uri": uri, "mode": "fix", "inventory": None}


def _intent(change: dict[str, Any], uuid: str = "", seq: int = 1, guest: str = "vm") -> dict[str, Any]:
    return {"event": "intent", "seq": seq, "guest": guest, "uuid": uuid, "requirement": "backup-job", "change": change}


DONE = {"event": "done", "seq": 1, "outcome": {}}


def _run(folder: Path, *lines: dict[str, Any]) -> Path:
    run = folder / "20260101T000000Z-fix"
    run.mkdir(mode=0o755, parents=True)
    (run / journal.NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def _file(path: Path, **more: Any) -> dict[str, Any]:
    change = {"kind": "file", "place": "vm", "path": str(path), "before": "planted\n", "after": None}
    return {**change, "verify": None, "then": None, "devices": [], **more}


@pytest.fixture
def domain() -> Iterator[libvirt.virDomain]:
    """A domain of the driver that undo connects to as well."""
    connection = libvirt.open(SHARED)
    domain = connection.defineXML(domain_xml(disk_xml("vda"), running=False, name="obeyed"))
    yield domain
    domain.undefine()


# Whose they are ---------------------------------------------------------------------------------


@needs_root
def test_another_users_journal_is_not_obeyed_by_undo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _run(tmp_path, _begin(), _intent(_file(tmp_path / "planted")), DONE)
    os.chown(run, NOBODY, NOBODY)
    assert main(["undo", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"reclaim: {run} belongs to nobody (mode 0755)" in said
    assert f"chown -R root {run}" in said
    assert not (tmp_path / "planted").exists()


@needs_root
@pytest.mark.parametrize("which", ["run", "reports", "journal"])
@pytest.mark.parametrize("mode", [None, 0o777], ids=["another-owner", "everybody-writes"])
def test_a_power_cycle_of_another_users_is_not_finished_by_a_run(tmp_path: Path, which: str, mode: int | None) -> None:
    """The domain that it would define is another one, with an emulator of that user's."""
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    planted = domain_xml(disk_xml(), name="planted").replace("/usr/bin/qemu-system-x86_64", "/tmp/emulator")
    cycle = {"kind": "power-cycle", "guest": "one", "booted": planted, "before": None, "why": "", "defined": ""}
    home = tmp_path / "reports" / "test-driver"
    run = _run(home, _begin(uri), _intent(cycle, uuid_of("one")))
    for folder in (home, home.parent, run):
        folder.chmod(0o755)
    spoilt = {"run": run, "reports": home, "journal": run / journal.NAME}[which]
    spoilt.chmod(mode) if mode else os.chown(spoilt, NOBODY, NOBODY)
    for options in ([], ["--fix"]):
        done = audit(tmp_path / "reports", *options, "-k", "discard", uri=uri)
        assert "planted" not in done.said
        assert "finished the power cycle" not in done.said
        assert "is not trusted" in done.said or "undo would not trust" in done.said


@needs_root
def test_changes_are_refused_before_the_first_where_undo_would_not_obey_their_journal(tmp_path: Path) -> None:
    """And an audit, which has no journal, may report there."""
    reports = tmp_path / "shared"
    reports.mkdir()
    reports.chmod(0o777)
    uri = node(tmp_path, domain_xml(disk_xml(), running=False))
    done = audit(reports, "--fix", "-k", "discard", uri=uri)
    assert done.status == 4
    assert f"{reports} can be written by everybody (owner root, mode 0777), so undo would not trust" in done.said
    assert "--reports /var/lib/reclaim/reports" in done.said
    assert "Traceback" not in done.said
    assert list(reports.iterdir()) == []
    assert audit(reports, "-k", "discard", uri=uri).status == 1
    assert list(reports.iterdir()) != []
    os.chown(reports, NOBODY, NOBODY)
    reports.chmod(0o755)
    assert f"{reports} belongs to nobody" in audit(reports, "--boot-stopped", "-k", "discard", uri=uri).said


@needs_root
def test_a_user_obeys_what_root_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _run(tmp_path, _begin(), _intent({"kind": "trim", "guest": "vm", "promised": ""}, "u"))
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert [type(entry.change) for entry in journal.read(run / journal.NAME).entries] == [Trim]


@needs_root
def test_another_users_inventory_is_not_obeyed(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.toml"
    inventory.write_text("")
    os.chown(inventory, NOBODY, NOBODY)
    done = audit(tmp_path / "reports", "--inventory", str(inventory))
    assert done.status == 4
    assert f"{inventory} belongs to nobody" in done.said
    assert f"the inventory {inventory} is not trusted" in done.said
    inventory.chmod(0o666)
    os.chown(inventory, 0, 0)
    assert "can be written by everybody" in audit(tmp_path / "reports", "--inventory", str(inventory)).said


@needs_root
def test_a_run_is_reached_by_a_link_of_ours_alone(tmp_path: Path) -> None:
    """As `latest` is one."""
    run = _run(tmp_path, _begin(), _intent({"kind": "trim", "guest": "vm", "promised": ""}, "u"), DONE)
    link = tmp_path / "latest"
    link.symlink_to(run.name)
    said: list[str] = []
    assert not undo(link, said.append)
    assert said == ["vm: backup-job: NOT taken back: the guest is gone"]
    os.chown(link, NOBODY, NOBODY, follow_symlinks=False)
    with pytest.raises(Untrusted, match=r"latest is a link of nobody; the run .* is not trusted: remove it"):
        undo(link, said.append)


def test_a_run_that_is_no_longer_where_it_was_says_nothing_of_others(tmp_path: Path) -> None:
    """A journal that is a link is none, and so is a run that is one."""
    run = _run(tmp_path / "there", _begin(), _intent({"kind": "trim", "guest": "vm", "promised": ""}, "u"), DONE)
    here = tmp_path / "here" / "20260101T000000Z-fix"
    here.mkdir(parents=True)
    (here / journal.NAME).symlink_to(run / journal.NAME)
    with pytest.raises(ReclaimError, match="a link, not a journal"):
        undo(here, lambda _: None)
    (tmp_path / "here" / "link").symlink_to(run)
    assert [str(one.path) for one in journal.journals_below(tmp_path / "here")[0]] == []


# What they say ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "qemu+ext:///system?command={}",
        "qemu+ssh://host/system?command={}",
        "qemu+ssh://host/system?no_tty=1;comm%61nd={}",
        "qemu+ssh://host/system?netcat={}",
    ],
)
def test_an_address_that_runs_a_command_has_to_be_said(tmp_path: Path, uri: str) -> None:
    mark, command = tmp_path / "mark", tmp_path / "command"
    executable(command, f"#!/bin/sh\n: >{mark}\nexit 1\n")
    uri = uri.format(command)
    run = _run(tmp_path, _begin(uri), _intent({"kind": "trim", "guest": "vm", "promised": ""}, "u"), DONE)
    with pytest.raises(ReclaimError, match=r"runs a command: if you want that, add --uri") as caught:
        undo(run, lambda _: None)
    assert "\n" not in str(caught.value)
    with pytest.raises(ReclaimError, match="that run was on"):
        undo(run, lambda _: None, uri="test:///default")
    assert not mark.exists()
    if "ext" in uri:
        with pytest.raises(ReclaimError, match="cannot connect"):
            undo(run, lambda _: None, uri=uri)
        assert mark.exists()


OTHER = domain_xml(disk_xml(), name="other")
OWN = domain_xml(disk_xml("vda"), running=False, name="obeyed")
UUID = uuid_of("obeyed")
DISK = disk_xml("vda")
WELL = {"mounts": {"/": "aaaa"}, "declared": "not a list"}
EVIL: dict[str, tuple[str, dict[str, Any], str]] = {
    "a-new-file-on-the-host": ("", _file(Path("/f")), "no fixer changes '/f' on the hypervisor in this way"),
    "a-file-away-on-the-host": ("", _file(Path("/f"), before=None, after="x"), "no fixer changes '/f'"),
    "a-command-after-it": ("", _file(Path("/f"), after="x", then="id"), "no fixer changes '/f'"),
    "a-command-to-verify": ("", _file(Path("/f"), after="x", verify="id"), "no fixer changes '/f'"),
    "a-relative-file": ("", _file(Path("f"), after="x"), "no fixer changes 'f'"),
    "a-command-on-the-host": ("", {"kind": "command", "guest": "vm", "command": "a", "back": "id"}, "kind command on"),
    "an-image-of-nobody": ("", {"kind": "image-amend", "guest": "vm", "path": "/dev/sda"}, "kind image-amend on"),
    "sparsify-of-nobody": ("", {"kind": "sparsify", "guest": "vm", "path": "/x", "format": "raw"}, "kind sparsify"),
    "another-guests-definition": (
        UUID,
        {"kind": "definition", "name": "o", "before": OTHER, "after": OWN},
        "another guest",
    ),
    "defined-of-another": (UUID, {"kind": "definition", "name": "o", "before": OWN, "after": OTHER}, "another guest"),
    "renamed-by-a-fixer": (
        UUID,
        {"kind": "definition", "name": "o", "before": OWN, "after": OWN.replace("<name>obeyed", "<name>x")},
        "several names",
    ),
    "no-uuid": (UUID, {"kind": "definition", "name": "o", "before": "<domain/>", "after": OWN}, "its uuid is 'absent'"),
    "no-xml": (UUID, {"kind": "definition", "name": "o", "before": "<", "after": OWN}, "cannot be parsed"),
    "surrogates": (UUID, {"kind": "definition", "name": "o", "before": "\udcff", "after": OWN}, "surrogates"),
    "a-power-cycle-into-another": (
        UUID,
        {"kind": "power-cycle", "guest": "o", "booted": OTHER, "before": None},
        "another",
    ),
    "a-cycle-that-amends-without-a-definition": (
        UUID,
        {"kind": "amend-cycle", "guest": "o", "booted": OWN, "before": None, "paths": ["/dev/sda"]},
        "cannot be parsed",
    ),
    "wellbeing-of-another-shape": (
        UUID,
        {"kind": "power-cycle", "guest": "o", "booted": OWN, "before": WELL},
        "declared",
    ),
    "another-disk": (
        UUID,
        {"kind": "live-update", "guest": "o", "disk": "vdb", "before": DISK, "after": DISK},
        "not the disk",
    ),
    "another-source": (
        UUID,
        {
            "kind": "live-update",
            "guest": "o",
            "disk": "vda",
            "before": DISK,
            "after": disk_xml("vda", source="/dev/sda"),
        },
        "more than the driver",
    ),
    "no-disk": (
        UUID,
        {"kind": "live-update", "guest": "o", "disk": "vda", "before": None, "after": "<hostdev/>"},
        "not the disk",
    ),
    "a-copy-of-a-guests": (
        UUID,
        {"kind": "hole-punch", "path": "/x", "device": 1, "inode": 1, "size": 1, "mtime_ns": 1, "expected": 1},
        "belongs to the hypervisor",
    ),
    "a-timer-of-another": (
        UUID,
        {"kind": "trim-timer", "guest": "o", "uuid": "/../x", "uri": "qemu:///system", "virsh": "/bin/virsh"},
        "the timer is of another guest",
    ),
    "an-unknown-kind": (UUID, {"kind": "magic"}, "unknown to this version"),
    "no-kind": (UUID, {}, "unknown to this version"),
    "an-unknown-key": (UUID, {"kind": "trim", "guest": "o", "promised": "", "run": "id"}, "'run' is unknown"),
    "a-key-missing": (UUID, {"kind": "command", "guest": "o"}, "command is missing"),
    "a-number-for-a-text": (UUID, {"kind": "trim", "guest": 5}, "guest: a number is not the type of this value"),
    "a-truth-for-a-number": (
        "",
        {"kind": "hole-punch", "path": "/x", "device": True, "inode": 1, "size": 1, "mtime_ns": 1, "expected": 1},
        "device: true or false",
    ),
    "a-text-for-a-list": (
        UUID,
        {"kind": "command", "guest": "o", "command": "a", "devices": "/dev/sda"},
        "devices: text",
    ),
    "a-list-of-numbers": (UUID, {"kind": "command", "guest": "o", "command": "a", "devices": [1]}, "devices: a number"),
}


@pytest.mark.parametrize(("uuid", "change", "words"), EVIL.values(), ids=EVIL)
def test_what_no_fixer_makes_is_told_by_line(
    tmp_path: Path, domain: libvirt.virDomain, uuid: str, change: dict[str, Any], words: str
) -> None:
    run = _run(tmp_path, _begin(), _intent(change, uuid), DONE)
    before, names = domain.XMLDesc(0), {one.name() for one in domain.connect().listAllDomains()}
    with pytest.raises(ReclaimError) as caught:
        undo(run, lambda _: None)
    assert str(caught.value).startswith(f"{run / journal.NAME}:2: not a line of a journal: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (domain.XMLDesc(0), {one.name() for one in domain.connect().listAllDomains()}) == (before, names)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param([_intent({"kind": "trim", "guest": "o"}, "u")], "no beginning", id="no-beginning"),
        pytest.param([_begin(), _begin("test:///other")], "of two hypervisors", id="two-hypervisors"),
        pytest.param([_begin("")], "begins without a hypervisor", id="no-hypervisor"),
        pytest.param([{**_begin(), "mode": "magic"}], "a mode that is unknown", id="mode"),
        pytest.param([{**_begin(), "uri": 5}], "uri: a number", id="uri"),
        pytest.param([{**_begin(), "sudo": True}], "'sudo' is unknown", id="key"),
        pytest.param([{"event": ["end"]}], "the event ['end'] is unknown", id="event"),
        pytest.param([_begin(), DONE], "there is no change 1", id="outcome-of-nothing"),
        pytest.param(
            [_begin(), _intent({"kind": "trim", "guest": "o"}, "u"), {**DONE, "outcome": {"defined": 5}}],
            "outcome: a number",
            id="outcome",
        ),
        pytest.param([_begin(), *[_intent({"kind": "trim", "guest": "o"}, "u")] * 2], "number of another", id="twice"),
    ],
)
def test_lines_of_another_shape_are_told(tmp_path: Path, lines: list[dict[str, Any]], words: str) -> None:
    run = _run(tmp_path, *lines)
    with pytest.raises(ReclaimError) as caught:
        undo(run, lambda _: None)
    assert f"{journal.NAME}:{len(lines)}: not a line of a journal: " in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"event": ' + "9" * 10_000 + "}", "\ud800", '{"event": "begin"'])
def test_what_is_no_json_is_told(tmp_path: Path, text: str) -> None:
    run = _run(tmp_path)
    (run / journal.NAME).write_bytes((text + "\n").encode("utf-8", errors="surrogatepass"))
    with pytest.raises(ReclaimError, match=r"jsonl:1: not a line of a journal"):
        undo(run, lambda _: None)


def test_a_huge_journal_is_refused_unread(tmp_path: Path) -> None:
    run = _run(tmp_path, _begin())
    os.truncate(run / journal.NAME, 2**40)
    with pytest.raises(ReclaimError, match="more than the 536870912 bytes that are read"):
        undo(run, lambda _: None)


@pytest.mark.parametrize("torn", [b"", b'{"event": "beg'], ids=["empty", "torn"])
def test_a_journal_that_a_crash_left_without_a_beginning_changed_nothing(tmp_path: Path, torn: bytes) -> None:
    run = _run(tmp_path)
    (run / journal.NAME).write_bytes(torn)
    said: list[str] = []
    assert undo(run, said.append)
    assert said == [f"{run}: that run changed nothing"]


def test_a_file_of_the_host_goes_back_only_as_a_declared_job(tmp_path: Path) -> None:
    job, inventory = tmp_path / "job", tmp_path / "inventory.toml"
    job.write_text("after\n")
    change = FileChange("here", str(job), "before\n", "after\n")
    run = tmp_path / "20260101T000000Z-fix"
    run.mkdir()
    book = Journal(run / journal.NAME, SHARED, "fix")
    book.done(book.intend("here", "", "backup-job", change), {})
    said: list[str] = []
    assert not undo(run, said.append)
    assert f"{job} is no job of the inventory: --inventory FILE names the one that declares it" in said[0]
    assert job.read_text() == "after\n"
    inventory.write_text(f'[[backup]]\njob = "{job}"\n')
    assert undo(run, said.append, inventory)
    assert job.read_text() == "before\n"


def test_what_read_would_refuse_is_not_written(tmp_path: Path) -> None:
    book = Journal(tmp_path / journal.NAME, SHARED, "fix")
    for uuid, change in (
        (UUID, DefinitionChange("o", OTHER, OTHER)),
        (UUID, PowerCycle("o", OTHER, None)),
        (UUID, HolePunch("/x", 1, 1, 1, 1, 1)),
        ("", CommandChange("o", "id")),
        ("", Sparsify("o", "/x", "raw")),
        (UUID, LiveUpdate("o", "vda", DISK, disk_xml("vda", source="/x"))),
    ):
        with pytest.raises(ChangeFailed):
            book.intend("o", uuid, "x", change)
    assert not book.path.exists()


def test_the_definition_of_another_guest_is_never_defined(tmp_path: Path) -> None:
    """Whoever asks for it, and before anything is shut down."""
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    before = guest.persistent.xml
    with pytest.raises(ChangeFailed, match="of another guest"):
        DefinitionChange("one", before, OTHER).apply(guest)
    with pytest.raises(ChangeFailed, match="of another guest"):
        DefinitionChange("one", OTHER, before).undo(guest, {})
    with pytest.raises(ChangeFailed, match="of another guest"):
        PowerCycle("one", OTHER, None).apply(guest)
    assert guest.domain.isActive()
    with pytest.raises(ChangeFailed, match="of another guest"):
        PowerCycle("one", OTHER, None, defined=before).finish(guest)
    guest.forget()
    assert guest.persistent.xml == before
    assert [domain.name() for domain in guest.hypervisor.connection.listAllDomains()] == ["one"]


def test_an_undefined_guest_that_runs_is_not_shut_down(tmp_path: Path) -> None:
    """Off, it would be gone: there is no definition to start it from."""
    guest = opened(tmp_path, domain_xml(disk_xml())).guests[0]
    xml = guest.persistent.xml
    guest.domain.undefine()
    with pytest.raises(ChangeFailed, match="it has been undefined, and would be gone once it is off"):
        PowerCycle("one", xml, None).apply(guest)
    assert guest.domain.isActive()


@needs_root
def test_a_journal_given_away_after_it_was_read_changes_nothing_for_the_reader(tmp_path: Path) -> None:
    """What was judged is what is read: one descriptor."""
    path = tmp_path / "file"
    path.write_text("ours")
    opened_paths: list[str] = []
    before = os.open

    def swap(name: Any, flags: int, *rest: Any, **more: Any) -> Any:
        if str(name).startswith("/proc/self/fd/"):
            path.unlink()
            path.write_text("swapped")
            os.chown(path, NOBODY, NOBODY)
        opened_paths.append(str(name))
        return before(name, flags, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", swap)
        assert trust.read(path, 100) == b"ours"
    assert opened_paths[-1].startswith("/proc/self/fd/")
    with pytest.raises(Untrusted):
        trust.read(path, 100)


def test_the_changes_of_fixers_are_obeyed(tmp_path: Path) -> None:
    """A whole run, read back: the strictness above refuses none of it."""
    done = audit(tmp_path / "reports", "--fix", "--force", uri=FLEET)
    entries = journal.read(done.folder / journal.NAME).entries
    assert len(entries) > 10
    change: Change
    for change in {type(entry.change): entry.change for entry in entries}.values():
        assert isinstance(change, DefinitionChange)
