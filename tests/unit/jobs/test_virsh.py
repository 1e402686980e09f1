"""The steps of virsh: copies that QEMU makes, guests that are stopped and go on, snapshots."""

from __future__ import annotations

import pytest

from reclaim.jobs.steps import Copy, Hold, NotUnderstood, Release, Snapshot, TrimStep
from reclaim.jobs.words import UNKNOWN
from tests.jobs import copy_in, steps_in, unread_in


def told(text: str) -> list[tuple[str, ...]]:
    """Each step: its kind, its guests, and how it holds or releases them."""
    found: list[tuple[str, ...]] = []
    for step in steps_in(text):
        match step:
            case Hold():
                found.append(("hold", *step.guests, step.way))
            case Release():
                found.append(("release", *step.guests, *step.ways))
            case TrimStep():
                found.append(("trim", *step.guests))
            case NotUnderstood():
                found.append(("unread",))
            case Copy():
                found.append(("copy", step.tool))
            case _:
                found.append((type(step).__name__,))
    return found


@pytest.mark.parametrize(
    ("command", "steps"),
    [
        ("shutdown web", [("hold", "web", "run")]),
        ("destroy web --graceful", [("hold", "web", "run")]),
        ("suspend --domain web", [("hold", "web", "run")]),
        ("suspend --domain=web", [("hold", "web", "run")]),
        ("managedsave web --verbose", [("hold", "web", "run")]),
        ("save web /b/web.save", [("hold", "web", "run")]),
        ("dompmsuspend web disk", [("hold", "web", "run")]),
        ("shutdown --mode acpi web", [("hold", "web", "run")]),
        ("shutdown --mode=acpi web", [("hold", "web", "run")]),
        ("start web", [("release", "web", "run")]),
        ("resume web", [("release", "web", "run")]),
        ("reboot web", [("release", "web", "run")]),
        ("restore /b/web.save", [("release", "run")]),
        ("create /b/web.xml", [("release", "run")]),
        ("start", [("release", "run")]),
        ("blockcommit web vda --active --pivot", [("release", "web", "overlay")]),
        ("blockpull web vda --wait", [("release", "web", "overlay")]),
        ("snapshot-delete web s", [("release", "web", "overlay")]),
        ("snapshot-revert web s", [("release", "web", "overlay")]),
        ("blockjob web vda --pivot", [("release", "web", "overlay")]),
        ("blockjob web vda --abort", [("release", "web", "overlay")]),
        ("blockjob web vda --info", []),
        ("domfsfreeze web", [("hold", "web", "run")]),
        ("domfsthaw web", [("release", "web", "run")]),
        ("domfstrim web", [("trim", "web")]),
        ("domfstrim web --mountpoint /x", []),
        ("domfstrim web --minimum 1M", [("trim", "web")]),
        ('qemu-agent-command web \'{"execute":"guest-shutdown"}\'', [("hold", "web", "run")]),
        ("qemu-agent-command web guest-suspend-disk", [("hold", "web", "run")]),
        ("qemu-agent-command web guest-fsfreeze-freeze", [("hold", "web", "run")]),
        ("qemu-agent-command web guest-fsfreeze-thaw", [("release", "web", "run")]),
        ("qemu-agent-command web guest-ping", []),
        ("list --all", []),
        ("domstate web", []),
        ("shutdown", []),
        ("suspend web; virsh resume web", [("hold", "web", "run"), ("release", "web", "run")]),
        ("'suspend web; resume web'", [("hold", "web", "run"), ("release", "web", "run")]),
        ("'suspend web;; '", [("hold", "web", "run")]),
    ],
)
def test_guests_that_are_held_and_go_on(command: str, steps: list[tuple[str, ...]]) -> None:
    assert told(f"virsh {command}\n") == steps


@pytest.mark.parametrize(
    ("command", "is_in_doubt"),
    [
        ("shutdown web", False),
        ("dompmsuspend web disk", False),
        ("dompmsuspend web hybrid", False),
        ("dompmsuspend web --target=disk", False),
        ("dompmsuspend web mem", True),
        ("domfsfreeze web", True),
        ("qemu-agent-command web guest-shutdown", False),
        ("qemu-agent-command web guest-fsfreeze-freeze", True),
        ("snapshot-create-as web s --disk-only", False),
        ("snapshot-create web /s.xml", True),
        ("blockcopy web vda /b/x", True),
    ],
)
def test_a_hold_that_may_not_last_is_in_doubt(command: str, *, is_in_doubt: bool) -> None:
    (hold,) = [step for step in steps_in(f"virsh {command}\n") if isinstance(step, Hold)]
    assert bool(hold.doubt) is is_in_doubt


@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("snapshot-create-as web s --disk-only", ()),
        ("snapshot-create-as web s --disk-only --diskspec vdb,snapshot=no", ("vdb",)),
        ("snapshot-create-as web s --disk-only --diskspec=vdb,snapshot=internal --diskspec vdc,snapshot=no",
         ("vdc", "vdb")),
        ("snapshot-create-as web s --diskspec vda,snapshot=external", ()),
        ("snapshot-create-as web s --diskspec=vda,file=/b/x", ()),
        ("snapshot-create-as --domain web --name s --disk-only", ()),
        ("snapshot-create web --disk-only", ()),
    ],
)  # fmt: skip
def test_an_external_snapshot_holds_the_disks_that_it_is_of(command: str, spared: tuple[str, ...]) -> None:
    (hold,) = steps_in(f"virsh {command}\n")
    assert isinstance(hold, Hold)
    assert (hold.guests, hold.way, hold.spared, hold.doubt) == (("web",), "overlay", spared, "")


@pytest.mark.parametrize(
    "command",
    [
        "snapshot-create-as web s",
        "snapshot-create web",
        "snapshot-create-as web s --disk-only --print-xml",
        "snapshot-create web /s.xml --redefine",
        "snapshot-create-as web s --diskspec vda,snapshot=internal",
    ],
)
def test_another_snapshot_holds_nothing(command: str) -> None:
    assert steps_in(f"virsh {command}\n") == []


def test_a_snapshot_whose_options_are_not_known_may_hold() -> None:
    (hold,) = steps_in('virsh snapshot-create-as web s "$OPTION"\n')
    assert isinstance(hold, Hold)
    assert hold.doubt


@pytest.mark.parametrize(
    ("options", "is_elsewhere"),
    [
        ("-c qemu:///system", False),
        ("--connect qemu:///system", False),
        ("--connect=qemu:///system", False),
        ("-cqemu:///system", False),
        ("-q -d 0 -k5", False),
        ("-c qemu+ssh://kvm2/system", True),
        ("--connect=qemu+tls://kvm2/system", True),
        ("-cqemu+ssh://kvm2/system", True),
        ("-c qemu://kvm2/system", True),
        ("-q -c qemu+tcp://kvm2/system", True),
    ],
)
def test_guests_of_another_machine_are_not_held_here(options: str, *, is_elsewhere: bool) -> None:
    assert told(f"virsh {options} suspend web\n") == ([] if is_elsewhere else [("hold", "web", "run")])


def test_commands_that_come_from_elsewhere_are_not_known() -> None:
    assert "line 1" in unread_in("virsh < /commands\n")
    assert "virsh" in unread_in("cat /commands | virsh\n")
    assert unread_in("virsh\n") == ""


# Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "source", "target", "is_sparse"),
    [
        ("vol-download --pool p web.img /b/web.img", "volume:web.img", "/b/web.img", False),
        ("vol-download /srv/web.img b/web.img --sparse", "/srv/web.img", "/work/b/web.img", True),
        ("vol-download --vol web.img --file /b/web.img --pool p", "volume:web.img", "/b/web.img", False),
        ("vol-download --sparse --vol=web.img --file=/b/x", "volume:web.img", "/b/x", True),
        ("-c qemu+ssh://kvm2/system vol-download web.img /b/x --sparse", "volume:web.img", "/b/x", True),
    ],
)
def test_a_volume_that_is_downloaded(command: str, source: str, target: str, *, is_sparse: bool) -> None:
    copy = copy_in(f"virsh {command}\n")
    assert (copy.sources, copy.target, copy.reads_devices) == ((source,), target, True)
    assert (copy.wrong == ()) is is_sparse


def test_a_download_of_nothing_has_no_place() -> None:
    copy = copy_in("virsh vol-download --sparse\n")
    assert (copy.sources, copy.target) == ((f"volume:{UNKNOWN}",), UNKNOWN)


@pytest.mark.parametrize(
    ("command", "guest", "target", "is_whole"),
    [
        ("blockcopy web vda /b/web.img", "web", "/b/web.img", False),
        ("blockcopy web vda --dest b/web.img --wait --finish", "web", "/work/b/web.img", True),
        ("blockcopy --domain web --path vda --dest=/b/web.img --wait --pivot", "web", "/b/web.img", False),
        ("backup-begin web", "web", "", False),
        ("backup-begin", UNKNOWN, "", False),
    ],
)
def test_a_copy_that_qemu_makes_while_the_guest_goes_on(
    command: str,
    guest: str,
    target: str,
    is_whole: bool,  # noqa: FBT001
) -> None:
    copy, *others = steps_in(f"virsh {command}\n")
    assert isinstance(copy, Copy)
    assert (copy.of_guest, copy.target, copy.is_whole, copy.at_once) == (guest, target, is_whole, True)
    assert copy.store
    snapshots = [step for step in others if isinstance(step, Snapshot)]
    assert [(one.origin, one.path) for one in snapshots] == ([(UNKNOWN, target)] if target and not is_whole else [])
    hold = others[-1]
    assert isinstance(hold, Hold)
    assert (hold.guests, hold.way) == ((guest,), "overlay")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("vol-clone --pool p web.img copy.img", "vol-clone"),
        ("migrate web qemu+ssh://kvm2/system --copy-storage-all", "migrate"),
        ('qemu-monitor-command web \'{"execute":"drive-mirror"}\'', "mirror"),
        ("qemu-monitor-command web --hmp stop", "stop"),
        ("-c qemu+ssh://kvm2/system blockcopy web vda /b/x", "another machine"),
        ("-c qemu+ssh://kvm2/system backup-begin web", "backup-begin"),
    ],
)
def test_a_copy_that_is_not_judged_is_told(command: str, words: str) -> None:
    assert words in unread_in(f"virsh {command}\n")
    assert told(f"virsh {command}\n") == [("unread",)]


def test_a_question_to_the_monitor_copies_nothing() -> None:
    assert steps_in("virsh qemu-monitor-command web --hmp info block\n") == []


def test_words_without_end_are_told_in_a_line() -> None:
    assert len(unread_in(f"virsh migrate web {'x' * 5000}\n")) < 200
