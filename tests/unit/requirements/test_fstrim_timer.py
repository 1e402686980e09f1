"""fstrim-timer: the check and the fixer as a pair."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import testinfra

from reclaim.base.verdict import Verdict
from reclaim.changes.command import CommandChange
from reclaim.changes.file_change import FileChange
from tests.support import FILES, SERVICE, TIMER, Inside, block, engine, inhabited, mounted, part, requirement, subject
from tests.support import verdict_of as judged

if TYPE_CHECKING:
    from pathlib import Path

ENABLE = CommandChange(
    "one",
    "systemctl enable fstrim.timer && systemctl start fstrim.timer",
    "systemctl stop fstrim.timer; systemctl disable fstrim.timer",
)
#: what runs already is not stopped, neither by an undo nor if enabling fails
ALONE = CommandChange("one", "systemctl enable fstrim.timer", "systemctl disable fstrim.timer")
START = CommandChange("one", "systemctl start fstrim.timer", "systemctl stop fstrim.timer")
WANT = CommandChange(
    "one",
    "systemctl add-wants timers.target fstrim.timer && systemctl start fstrim.timer",
    "systemctl stop fstrim.timer; rm -f /etc/systemd/system/timers.target.wants/fstrim.timer && "
    "systemctl daemon-reload",
)
#: Debian 8 and 9 ship the units in /usr/share/doc/util-linux/examples alone
INSTALL = CommandChange(
    "one",
    "cp /usr/share/doc/util-linux/examples/fstrim.service /usr/share/doc/util-linux/examples/fstrim.timer "
    f"/etc/systemd/system/ && systemctl daemon-reload && {ENABLE.command}",
    f"{ENABLE.back}; rm -f /etc/systemd/system/fstrim.service /etc/systemd/system/fstrim.timer "
    "&& systemctl daemon-reload",
)
AGAIN = CommandChange("one", "systemctl start fstrim.service")


def _set(unit: str, **values: str) -> Any:
    def change(inside: Inside) -> int:
        getattr(inside, unit).update(values)
        return 0

    return change


COMMANDS = {
    ENABLE.command: _set("timer", UnitFileState="enabled", ActiveState="active"),
    ALONE.command: _set("timer", UnitFileState="enabled"),
    START.command: _set("timer", ActiveState="active"),
    WANT.command: _set("timer", ActiveState="active"),
    INSTALL.command: _set("timer", LoadState="loaded", UnitFileState="enabled", ActiveState="active"),
    AGAIN.command: _set("service", Result="success"),
}


@pytest.mark.parametrize(
    ("timer", "service", "changes"),
    [
        pytest.param({"UnitFileState": "disabled", "ActiveState": "inactive"}, {}, [ENABLE], id="disabled"),
        pytest.param({"UnitFileState": "disabled"}, {}, [ALONE], id="disabled-but-active"),
        pytest.param({"ActiveState": "inactive"}, {}, [START], id="enabled-but-inactive"),
        pytest.param({"ActiveState": "failed"}, {}, [START], id="failed"),
        pytest.param({"UnitFileState": "enabled-runtime"}, {}, [ALONE], id="enabled-until-the-next-boot"),
        pytest.param({"UnitFileState": "indirect"}, {}, [ALONE], id="indirect"),
        pytest.param({"UnitFileState": "linked"}, {}, [ALONE], id="linked-and-wanted-by-nothing"),
        pytest.param({"UnitFileState": "static", "ActiveState": "inactive"}, {}, [WANT], id="static"),
        pytest.param(
            {"LoadState": "not-found", "UnitFileState": "", "ActiveState": "inactive"}, {}, [INSTALL], id="example"
        ),
        pytest.param({}, {"Result": "exit-code"}, [AGAIN], id="last-run-failed"),
        pytest.param(
            {"UnitFileState": "disabled", "ActiveState": "inactive"},
            {"Result": "timeout"},
            [ENABLE, AGAIN],
            id="disabled-and-failed",
        ),
    ],
)
def test_the_timer_is_put_to_work(
    tmp_path: Path, timer: dict[str, str], service: dict[str, str], changes: list[CommandChange]
) -> None:
    inside = Inside(timer={**TIMER, **timer}, service={**SERVICE, **service}, commands=COMMANDS)
    inside.tools += ("fstrim-examples",)
    guest = inhabited(tmp_path, inside)
    assert judged(guest, "fstrim-timer") is Verdict.NONCOMPLIANT
    assert requirement("fstrim-timer").fixer(guest) == changes
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert inside.ran == [change.command for change in changes]
    assert inside.files == FILES
    again = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])


@pytest.mark.parametrize(
    ("timer", "service", "words"),
    [
        pytest.param({"LoadState": "masked", "UnitFileState": "masked"}, {}, "masked", id="masked"),
        pytest.param({"UnitFileState": "masked-runtime"}, {}, "masked", id="masked-until-the-next-boot"),
        pytest.param(
            {"LoadState": "not-found", "UnitFileState": ""}, {}, "no fstrim.timer and no folder", id="not-there"
        ),
        pytest.param({"LoadState": "bad-setting", "ActiveState": "inactive"}, {}, "is bad-setting", id="broken"),
        pytest.param({"SubState": "elapsed"}, {}, "systemctl cat fstrim.timer", id="a-drop-in-without-OnCalendar"),
        pytest.param({"Unit": "other.service"}, {}, "that has it start other.service", id="another-unit"),
        pytest.param(
            {"UnitFileState": "disabled"},
            {"ConditionResult": "no", "ConditionTimestamp": "Mon 2026-11-23 00:12:00 UTC"},
            "take out the one that is not met",
            id="a-condition-is-not-met",
        ),
        pytest.param({}, {"LoadState": "masked", "ExecStart": ""}, "fstrim.service is masked", id="service-masked"),
    ],
)
def test_what_somebody_decided_or_never_installed_is_told(
    tmp_path: Path, timer: dict[str, str], service: dict[str, str], words: str
) -> None:
    inside = Inside(timer={**TIMER, **timer}, service={**SERVICE, **service}, commands=COMMANDS)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert words in result.reason.partition("withheld: ")[2]
    assert inside.ran == []


def test_a_timer_that_does_not_start_is_not_mended(tmp_path: Path) -> None:
    inside = Inside(timer={**TIMER, "ActiveState": "inactive"}, commands={START.command: lambda _: 4})
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.NONCOMPLIANT
    assert "systemctl start fstrim.timer ended with status 4: it failed" in result.reason


DATA = block("vdb", part("vdb1", fstype="xfs", uuid="dddd"))


@pytest.mark.parametrize(
    ("fstab", "mount", "missed"),
    [
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs"), "/data (not in fstab)", id="not-in-fstab"),
        pytest.param(
            "UUID=dddd /data xfs defaults,X-fstrim.notrim\n",
            mounted("/data", "/dev/vdb1", "xfs"),
            "/data (X-fstrim.notrim)",
            id="notrim",
        ),
        pytest.param("UUID=dddd /data xfs\n", mounted("/data", "/dev/vdb1", "xfs"), None, id="in-fstab"),
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs", "rw,discard"), None, id="discard"),
        pytest.param("", mounted("/data", "/dev/vdb1", "btrfs", "rw,discard=async"), None, id="discard-async"),
        pytest.param("", mounted("/data", "/dev/vdb1", "xfs", "ro,relatime"), None, id="read-only"),
        pytest.param("", mounted("/data", "/dev/vdb1", "ext2"), None, id="not-trimmable"),
        pytest.param("UUID=dddd /a\\040b xfs\n", mounted("/a b", "/dev/vdb1", "xfs"), None, id="escaped-target"),
        pytest.param("UUID=dddd /data/ xfs\n", mounted("/data", "/dev/vdb1", "xfs"), None, id="slash-at-the-end"),
        pytest.param(
            "UUID=dddd /data xfs defaults,ro\n",
            mounted("/data", "/dev/vdb1", "xfs"),
            "/data (read-only in fstab)",
            id="read-only-in-fstab-and-remounted",
        ),
    ],
)
def test_every_trimmable_mount_has_to_be_covered(
    tmp_path: Path, fstab: str, mount: dict[str, Any], missed: str | None
) -> None:
    inside = Inside()
    inside.devices.append(DATA)
    inside.mounts.append(mount)
    inside.files["/etc/fstab"] += fstab
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.changes == []
    if missed:
        assert result.verdict is Verdict.NONCOMPLIANT
        assert result.reason.startswith(f"fstrim.timer does not cover {missed}; withheld: ")
    else:
        assert result.verdict is Verdict.COMPLIANT


#: ExecStart= of Debian 9 and 10 (fstrim.service.in of util-linux 2.29 and 2.33), and what people make of it
LINE = "{{ path={0} ; argv[]={0} {1} ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; status=0/0 }}"


@pytest.mark.parametrize(
    ("path", "arguments", "verdict", "words"),
    [
        pytest.param("/sbin/fstrim", "-av", Verdict.COMPLIANT, "", id="debian-9-all"),
        pytest.param("/sbin/fstrim", "-Av", Verdict.NONCOMPLIANT, "not cover /data (not in fstab)", id="debian-10"),
        pytest.param("/usr/sbin/fstrim", "--fstab --verbose --quiet", Verdict.NONCOMPLIANT, "not in fstab", id="2.35"),
        pytest.param("/sbin/fstrim", "--listed-in=/proc/self/mountinfo", Verdict.COMPLIANT, "", id="mountinfo"),
        pytest.param("/sbin/fstrim", "-v / ", Verdict.NONCOMPLIANT, "/data (not named by", id="a-drop-in-names-one"),
        pytest.param("/sbin/fstrim", "-v /data", Verdict.NONCOMPLIANT, "/ (not named by", id="a-drop-in-names-another"),
        pytest.param("/root/trim.sh", "", Verdict.NOT_ASSESSABLE, "changed to run /root/trim.sh", id="a-script"),
    ],
)
def test_the_unit_is_judged_by_what_it_runs(
    tmp_path: Path, path: str, arguments: str, verdict: Verdict, words: str
) -> None:
    inside = Inside(service={**SERVICE, "ExecStart": LINE.format(path, arguments)})
    inside.devices.append(DATA)
    inside.mounts.append(mounted("/data", "/dev/vdb1", "xfs"))
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes) == (verdict, [])
    assert words in result.reason


@pytest.mark.parametrize(
    ("service", "fstab", "advice"),
    [
        pytest.param(
            {
                "ExecStart": LINE.format("/sbin/fstrim", "-v /"),
                "DropInPaths": "/etc/systemd/system/fstrim.service.d/a.conf",
            },
            "UUID=dddd /data xfs\n",
            "/etc/systemd/system/fstrim.service.d/a.conf: let its ExecStart= trim all (fstrim --all), or add one "
            "for each of these: /data (not named by fstrim.service)",
            id="a-drop-in",
        ),
        *(
            pytest.param(
                {
                    "ExecStart": LINE.format("/sbin/fstrim", options),
                    "DropInPaths": "/etc/systemd/system/fstrim.service.d/a.conf",
                },
                "UUID=dddd /data xfs\n",
                "/etc/systemd/system/fstrim.service.d/a.conf: let its ExecStart= trim all (fstrim --all), without "
                "options that leave some out: / (left out by the command of fstrim.service), /data (left out by the "
                "command of fstrim.service)",
                id=options,
            )
            for options in ("--all --dry-run", "-a -m 1G", "--all --types btrfs", "-I /etc/mine")
        ),
        pytest.param(
            {"ExecStart": LINE.format("/sbin/fstrim", "-v /"), "FragmentPath": "/etc/systemd/system/fstrim.service"},
            "UUID=dddd /data xfs\n",
            "/etc/systemd/system/fstrim.service: let its ExecStart=",
            id="a-unit-of-the-administrators",
        ),
        pytest.param(
            {"ExecStart": LINE.format("/sbin/fstrim", "-v /"), "FragmentPath": "/lib/systemd/system/fstrim.service"},
            "UUID=dddd /data xfs\n",
            "the drop-in of fstrim.service (systemctl cat fstrim.service): let its ExecStart=",
            id="not-told-which",
        ),
        pytest.param(
            {}, "UUID=dddd /data xfs X-fstrim.notrim\n", "take X-fstrim.notrim out of fstab", id="not-to-be-trimmed"
        ),
        pytest.param({}, "UUID=dddd /data xfs ro\n", "take `ro` out of fstab", id="read-only"),
        pytest.param(
            {}, "", "add to fstab, or mount with the option `discard`: /data (not in fstab)", id="not-in-fstab"
        ),
    ],
)
def test_what_keeps_a_filesystem_from_being_trimmed_is_what_is_to_be_changed(
    tmp_path: Path, service: dict[str, str], fstab: str, advice: str
) -> None:
    inside = Inside(service={**SERVICE, **service})
    inside.devices.append(DATA)
    inside.mounts.append(mounted("/data", "/dev/vdb1", "xfs"))
    inside.files["/etc/fstab"] += fstab
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert result.reason.partition("withheld: ")[2].startswith(advice)


@pytest.mark.parametrize(
    ("fstab", "verdict"),
    [
        pytest.param("# empty\n", Verdict.COMPLIANT, id="lists-nothing-so-mountinfo-counts"),
        pytest.param("UUID=dddd /data xfs\n", Verdict.COMPLIANT, id="without-the-root-which-fstrim-adds"),
        pytest.param("/dev/zram0 none swap\n", Verdict.NONCOMPLIANT, id="lists-swap-alone"),
    ],
)
def test_an_fstab_counts_as_fstrim_reads_it(tmp_path: Path, fstab: str, verdict: Verdict) -> None:
    inside = Inside()
    inside.devices.append(DATA)
    inside.mounts.append(mounted("/data", "/dev/vdb1", "xfs"))
    inside.files["/etc/fstab"] = fstab
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is verdict


def test_subvolumes_of_one_btrfs_are_one_filesystem(tmp_path: Path) -> None:
    inside = Inside()
    inside.mounts = [mounted("/", "/dev/vda1[/@]", "btrfs"), mounted("/home", "/dev/vda1[/@home]", "btrfs")]
    inside.files["/etc/fstab"] = "UUID=aaaa-1 /home btrfs subvol=@home\n"
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is Verdict.COMPLIANT


UNPROTECT = CommandChange(
    "one",
    "mkdir -p /etc/systemd/system/fstrim.service.d && printf '[Service]\\nProtectSystem=no\\nProtectHome=no\\n' "
    ">/etc/systemd/system/fstrim.service.d/reclaim.conf && systemctl daemon-reload",
    "rm -f /etc/systemd/system/fstrim.service.d/reclaim.conf && systemctl daemon-reload",
)


@pytest.mark.parametrize(
    ("protect", "target", "words"),
    [
        pytest.param({"ProtectSystem": "strict"}, "/data", "nothing with ProtectSystem=strict", id="2.34-strict"),
        pytest.param({"ProtectSystem": "no", "ProtectHome": "yes"}, "/home", "/home (hidden from", id="2.34-home"),
        pytest.param({"ProtectSystem": "full", "ProtectHome": "yes"}, "/data", "", id="elsewhere"),
        pytest.param({"ProtectSystem": "no", "ProtectHome": "no"}, "/home", "", id="2.35.2"),
    ],
)
def test_a_unit_that_sees_all_read_only_trims_nothing(
    tmp_path: Path, protect: dict[str, str], target: str, words: str
) -> None:
    """fstrim.service.in of util-linux 2.34 to 2.35.1, as Ubuntu 20.04 and Fedora 32 have had it."""
    inside = Inside(service={**SERVICE, **protect})
    inside.commands[UNPROTECT.command] = _set("service", ProtectSystem="no", ProtectHome="no")
    inside.devices.append(DATA)
    inside.mounts.append(mounted(target, "/dev/vdb1", "xfs"))
    inside.files["/etc/fstab"] += f"UUID=dddd {target} xfs\n"
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert words in result.reason
    assert inside.ran == ([UNPROTECT.command] if words else [])
    assert result.verdict is (Verdict.FIXED if words else Verdict.COMPLIANT)


def test_a_filesystem_counts_that_is_read_only_in_one_place_alone(tmp_path: Path) -> None:
    """Fedora Silverblue and bootc: / is composefs, its disk is read-only on /sysroot and written to on /var."""
    inside = Inside()
    inside.mounts = [
        mounted("/", "composefs", "overlay", "ro"),
        mounted("/sysroot", "/dev/vda1", "xfs", "ro,relatime"),
        mounted("/var", "/dev/vda1[/ostree/deploy/default/var]", "xfs"),
    ]
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes) == (Verdict.NONCOMPLIANT, [])
    assert "fstrim.timer does not cover /var (not in fstab)" in result.reason


# Without systemd -------------------------------------------------------------------------------

HEAD = "#!/bin/sh\n# weekly, by reclaim: gives freed space back to the host\n"


@pytest.mark.parametrize("folder", ["/etc/cron.weekly", "/etc/periodic/weekly"])
def test_a_weekly_script_that_busybox_runs_too(tmp_path: Path, folder: str) -> None:
    """sysvinit with cron (Devuan), OpenRC with busybox's crond (Alpine); run for real, with an fstrim of our own."""
    path = f"{folder}/reclaim-fstrim"
    script = HEAD + "fstrim /\nfstrim '/a b'\n"
    executable = f"test ! -e {path} || chmod 755 {path}"

    def allow(inside: Inside) -> int:
        lines = inside.files.get(path, "").splitlines()
        inside.cron = "".join(f"{path}\t{line}\n" for line in lines if "fstrim " in line)
        return 0

    inside = Inside(tools=("fstrim", folder), daemons="crond\n", commands={executable: allow})
    inside.devices.append(DATA)
    inside.mounts.append(mounted("/a b", "/dev/vdb1", "xfs"))
    guest = inhabited(tmp_path, inside)
    [change] = requirement("fstrim-timer").fixer(guest)
    assert change == FileChange("one", path, None, script, then=executable)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    again = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (again.verdict, again.changes) == (Verdict.COMPLIANT, [])
    change.undo(guest, {})
    assert path not in inside.files


def test_a_weekly_script_can_be_run_and_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "weekly"
    change = FileChange("here", str(path), None, HEAD, then=f"test ! -e {path} || chmod 755 {path}")
    here: Any = SimpleNamespace(name="here", shell=testinfra.get_host("local://"))
    change.apply(here)
    assert (path.read_text(), path.stat().st_mode & 0o777) == (HEAD, 0o755)
    change.undo(here, {})
    assert not path.exists()


def test_a_filesystem_that_came_later_gets_a_script_of_its_own(tmp_path: Path) -> None:
    path = "/etc/cron.weekly/reclaim-fstrim"
    inside = Inside(tools=("fstrim", "/etc/cron.weekly"), daemons="cron\n", cron=f"{path}\tfstrim /\n")
    inside.devices.append(DATA)
    inside.mounts.append(mounted("/a b", "/dev/vdb1", "xfs"))
    [change] = requirement("fstrim-timer").fixer(inhabited(tmp_path, inside))
    assert isinstance(change, FileChange)
    assert (change.path, change.before) == (f"{path}-2", None)


@pytest.mark.parametrize(
    ("cron", "daemons", "verdict", "words"),
    [
        pytest.param(
            "/etc/cron.weekly/fstrim\t/sbin/fstrim --all || true\n", "cron\n", "compliant", "", id="ubuntu-16.04"
        ),
        pytest.param(
            "/etc/cron.weekly/fstrim\texec fstrim-all\n", "cron\n", "noncompliant", "not all", id="ubuntu-14.04"
        ),
        pytest.param(
            "/etc/cron.weekly/fstrim\texec fstrim-all --no-model-check\n", "cron\n", "compliant", "", id="every-model"
        ),
        pytest.param("/etc/crontab\t0 3 * * 0 root fstrim -av\n", "cron\n", "compliant", "", id="crontab"),
        pytest.param("/etc/cron.d/x\t@weekly root fstrim -A -v\n", "fcron\n", "compliant", "", id="fstab-only"),
        pytest.param("/etc/cron.d/x\t@weekly root fstrim -v / 2>&1 | logger\n", "cron\n", "compliant", "", id="named"),
        pytest.param(
            "/etc/cron.weekly/f\t[ -x /sbin/fstrim ] && /sbin/fstrim -a\n", "cron\n", "compliant", "", id="asked-for"
        ),
        pytest.param(
            "/etc/cron.d/x\t@weekly root fstrim /srv && fstrim /\n", "cron\n", "compliant", "", id="two-on-a-line"
        ),
        pytest.param(
            "/etc/cron.d/x\t@weekly root fstrim /srv; ls /\n",
            "cron\n",
            "noncompliant",
            "cron trims not all",
            id="another",
        ),
        pytest.param(
            "/etc/cron.d/x\t@weekly root for m in $mounts; do fstrim $m; done\n",
            "cron\n",
            "noncompliant",
            "not all",
            id="loop",
        ),
        pytest.param(
            "/etc/cron.d/x\t@weekly root fstrim 'a\n", "cron\n", "noncompliant", "cron trims not all", id="broken"
        ),
        pytest.param("/etc/cron.weekly/f\tfstrim -a\n", "", "noncompliant", "no cron daemon runs", id="no-daemon"),
        pytest.param("", "cron\n", "noncompliant", "has no systemd: nothing trims /", id="nothing"),
    ],
)
def test_cron_is_judged_by_what_it_trims(tmp_path: Path, cron: str, daemons: str, verdict: str, words: str) -> None:
    guest = inhabited(tmp_path, Inside(tools=("fstrim",), cron=cron, daemons=daemons))
    result = engine(guest.hypervisor, tmp_path, "audit").run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict.value == verdict
    assert words in result.reason


@pytest.mark.parametrize(
    ("tools", "daemons", "words"),
    [
        pytest.param(("/etc/cron.weekly",), "cron\n", "fstrim is not installed", id="no-fstrim"),
        pytest.param(("fstrim",), "cron\n", "no folder of weekly cron jobs", id="no-cron"),
        pytest.param(("fstrim", "/etc/cron.weekly"), "", "start a cron daemon", id="no-daemon"),
    ],
)
def test_where_cron_does_not_run_nothing_is_written(
    tmp_path: Path, tools: tuple[str, ...], daemons: str, words: str
) -> None:
    inside = Inside(tools=tools, daemons=daemons)
    guest = inhabited(tmp_path, inside)
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert (result.verdict, result.changes, inside.ran) == (Verdict.NONCOMPLIANT, [], [])
    assert words in result.reason


# What trims without a timer, and what no timer trims --------------------------------------------


def test_the_mount_option_needs_no_timer(tmp_path: Path) -> None:
    inside = Inside(timer={**TIMER, "UnitFileState": "disabled", "ActiveState": "inactive"})
    inside.mounts = [mounted("/", "/dev/vda1", "btrfs", "rw,discard=async,subvol=/@")]
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is Verdict.COMPLIANT


@pytest.mark.parametrize(
    ("release", "verdict"), [("4.18.0-553.el8.x86_64", Verdict.COMPLIANT), ("4.19.0-27-amd64", Verdict.NONCOMPLIANT)]
)
def test_vfat_is_trimmed_from_linux_4_19_on(tmp_path: Path, release: str, verdict: Verdict) -> None:
    inside = Inside(release=release)
    inside.devices.append(block("vdb", part("vdb1", fstype="vfat")))
    inside.mounts.append(mounted("/efi", "/dev/vdb1", "vfat"))
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is verdict


def test_zfs_is_trimmed_by_its_pool(tmp_path: Path) -> None:
    change = CommandChange("one", "zpool set autotrim=on tank", "zpool set autotrim=off tank")

    def turn_on(inside: Inside) -> int:
        inside.zfs = "tank\ton\nrpool\ton\n"
        return 0

    inside = Inside(zfs="tank\toff\nrpool\ton\n", commands={change.command: turn_on})
    guest = inhabited(tmp_path, inside)
    assert requirement("fstrim-timer").fixer(guest) == [change]
    result = engine(guest.hypervisor, tmp_path).run(requirement("fstrim-timer"), subject(guest))
    assert result.verdict is Verdict.FIXED, result.reason
    assert "autotrim is off on tank, and" in result.reason


def test_a_pool_that_cron_trims_is_left(tmp_path: Path) -> None:
    inside = Inside(zfs="tank\toff\n", cron="/etc/cron.d/z\t@monthly root zpool trim tank\n")
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is Verdict.COMPLIANT


def test_where_nothing_can_be_trimmed_nothing_has_to(tmp_path: Path) -> None:
    inside = Inside(mounts=[mounted("/", "overlay", "overlay")])
    assert judged(inhabited(tmp_path, inside), "fstrim-timer") is Verdict.NOT_APPLICABLE
