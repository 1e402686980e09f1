"""The schedules that trim a guest's filesystems, and the filesystems that none of them trims."""

from __future__ import annotations

from typing import Any

import pytest

from reclaim.inside import trim_schedule
from reclaim.inside.trim_schedule import Reach, TrimReach
from tests.support import FILES, SERVICE, TIMER, TOOLS, Inside, block, mounted, part

FSTAB = FILES["/etc/fstab"]
DATA = block("vdb", part("vdb1", fstype="xfs", uuid="dddd"))
NO_SYSTEMD = tuple(tool for tool in TOOLS if tool != "systemctl")
EVERYTHING = Reach(everything=True)
BY_FSTAB = Reach(fstab=True)


def _inside(**more: Any) -> Inside:
    """A Debian whose timer works, with a second disk that is mounted on /data."""
    fstab = more.pop("fstab", FSTAB)
    options = more.pop("options", "rw")
    mounts = [mounted("/", "/dev/vda1", uuid="aaaa-1"), mounted("/data", "/dev/vdb1", "xfs", options)]
    devices = [block("vda", part("vda1", uuid="aaaa-1", fstype="ext4")), DATA]
    return Inside(**{"files": {**FILES, "/etc/fstab": fstab}, "devices": devices, "mounts": mounts, **more})


def _service(*commands: str, **more: str) -> dict[str, str]:
    """fstrim.service with these command lines."""
    lines = [f"{{ path=x ; argv[]={command} ; ignore_errors=no }}" for command in commands]
    return {**SERVICE, "ExecStart": "\nExecStart=".join(lines), **more}


# The timer ------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["enabled", "static", "generated", "alias"])
def test_a_timer_that_works(state: str) -> None:
    assert trim_schedule.why_not_by_timer(Inside(timer={**TIMER, "UnitFileState": state}).facts()) is None


@pytest.mark.parametrize(
    ("timer", "service", "words"),
    [
        pytest.param({"LoadState": "masked"}, {}, "fstrim.timer is masked", id="masked"),
        pytest.param({"LoadState": ""}, {}, "unknown to systemd", id="no-answer"),
        pytest.param({"UnitFileState": "linked"}, {}, "fstrim.timer is linked", id="linked"),
        pytest.param({"UnitFileState": "enabled-runtime"}, {}, "enabled-runtime", id="until-the-next-boot"),
        pytest.param({"UnitFileState": ""}, {}, "not enabled", id="no-state"),
        pytest.param({"ActiveState": "inactive"}, {}, "enabled but inactive", id="inactive"),
        pytest.param({"SubState": "elapsed"}, {}, "never elapses again", id="elapsed"),
        pytest.param({"Unit": "other.service"}, {}, "fstrim.timer starts other.service", id="another-unit"),
        pytest.param(
            {},
            {"ConditionResult": "no", "ConditionTimestamp": "Mon 2026-11-23 00:12:00 UTC"},
            "systemd skipped the last run of fstrim.service",
            id="a-condition-is-not-met",
        ),
        pytest.param({}, {"LoadState": "masked"}, "fstrim.service is masked", id="service-masked"),
        pytest.param({}, {"LoadState": ""}, "fstrim.service is unknown", id="service-no-answer"),
        pytest.param({}, {"ProtectSystem": "strict"}, "ProtectSystem=strict", id="read-only-to-it"),
        pytest.param({}, {"Result": "timeout"}, "failed: timeout", id="last-run-failed"),
    ],
)
def test_why_a_timer_does_not_trim(timer: dict[str, str], service: dict[str, str], words: str) -> None:
    facts = Inside(timer={**TIMER, **timer}, service={**SERVICE, **service}).facts()
    assert words in str(trim_schedule.why_not_by_timer(facts))


def test_without_systemd_there_is_no_timer() -> None:
    assert "Debian GNU/Linux 12" in str(trim_schedule.why_not_by_timer(Inside(tools=NO_SYSTEMD).facts()))


@pytest.mark.parametrize(
    ("timer", "service"),
    [
        pytest.param({"Unit": "fstrim.service"}, {}, id="its-own-unit"),
        pytest.param({}, {"ConditionResult": "no", "ConditionTimestamp": ""}, id="never-started"),
        pytest.param(
            {}, {"ConditionResult": "yes", "ConditionTimestamp": "Mon 2026-11-23 00:12:00 UTC"}, id="condition-met"
        ),
    ],
)
def test_a_start_that_nothing_skips_is_no_obstacle(timer: dict[str, str], service: dict[str, str]) -> None:
    facts = Inside(timer={**TIMER, **timer}, service={**SERVICE, **service}).facts()
    assert trim_schedule.why_not_by_timer(facts) is None


def test_another_protection_is_no_obstacle() -> None:
    assert trim_schedule.why_not_by_timer(Inside(service={**SERVICE, "ProtectSystem": "full"}).facts()) is None


# cron -----------------------------------------------------------------------------------------

WEEKLY = "/etc/cron.weekly/fstrim\t"


@pytest.mark.parametrize(
    ("cron", "daemons", "words"),
    [
        ("", "cron\n", "no cron job trims"),
        (f"{WEEKLY}fstrim -av\n", "", "/etc/cron.weekly/fstrim trims, but no cron daemon runs"),
        (f"{WEEKLY}fstrim -av\n", "crond\n", None),
    ],
)
def test_why_cron_does_not_trim(cron: str, daemons: str, words: str | None) -> None:
    assert trim_schedule.why_not_by_cron(Inside(cron=cron, daemons=daemons).facts()) == words


# The reach of a call --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "reach"),
    [
        pytest.param(["/sbin/fstrim -av"], EVERYTHING, id="everything"),
        pytest.param(["/sbin/fstrim --all"], EVERYTHING, id="everything-in-full"),
        pytest.param(["/sbin/fstrim -A"], BY_FSTAB, id="fstab"),
        pytest.param(["/sbin/fstrim --fstab --verbose"], BY_FSTAB, id="fstab-in-full"),
        pytest.param(["/sbin/fstrim -v --fstab-not"], Reach(), id="another-option"),
        pytest.param(["/sbin/fstrim --listed-in /etc/fstab:/proc/self/mountinfo"], BY_FSTAB, id="listed"),
        pytest.param(["/sbin/fstrim --listed-in=/proc/self/mountinfo"], EVERYTHING, id="all-mounts"),
        pytest.param(["/sbin/fstrim -I /etc/mtab:/etc/fstab"], EVERYTHING, id="mtab-first"),
        pytest.param(["/sbin/fstrim -I /etc/other"], Reach(), id="a-file-that-nobody-reads"),
        pytest.param(["/sbin/fstrim -I"], Reach(), id="no-file"),
        pytest.param(["/sbin/fstrim -v /data/"], Reach(targets=frozenset(["/data"])), id="target"),
        # fstrim(8) of util-linux takes one: "unexpected number of arguments"
        pytest.param(["/sbin/fstrim -v /data/ /srv"], Reach(), id="two-targets"),
        pytest.param(["/sbin/fstrim -a /"], Reach(), id="everything-and-a-target"),
        pytest.param(["/sbin/fstrim --fstab -v /data"], Reach(), id="fstab-and-a-target"),
        pytest.param(["/sbin/fstrim -nav"], Reach(), id="only-pretends"),
        pytest.param(["/sbin/fstrim --all --dry-run"], Reach(), id="only-pretends-in-full"),
        pytest.param(["/sbin/fstrim -o 1G -l 2G /"], Reach(), id="a-part"),
        pytest.param(["/sbin/fstrim --length=2G /"], Reach(), id="a-part-in-full"),
        pytest.param(["/sbin/fstrim -a -m 1G"], Reach(), id="long-extents-alone"),
        pytest.param(["/sbin/fstrim -a --minimum=x"], Reach(), id="no-size"),
        pytest.param(["/sbin/fstrim -a -m1M"], EVERYTHING, id="a-small-minimum"),
        pytest.param(["/sbin/fstrim -a --minimum 4096"], EVERYTHING, id="a-minimum-in-bytes"),
        pytest.param(["/sbin/fstrim --quiet-unsupported -v /srv"], Reach(targets=frozenset(["/srv"])), id="quiet"),
        pytest.param(["/sbin/fstrim -tvfat /"], Reach(targets=frozenset(["/"])), id="no-option-within-a-value"),
        pytest.param(["/sbin/fstrim /"], Reach(targets=frozenset(["/"])), id="root"),
        pytest.param(["/sbin/fstrim -A", "fstrim /b"], Reach(fstab=True, targets=frozenset(["/b"])), id="two"),
        pytest.param(["/sbin/fstrim -A", "/bin/true"], None, id="something-else"),
        pytest.param(["/bin/notfstrim -a"], None, id="another-name"),
        pytest.param([], BY_FSTAB, id="not-shown"),
    ],
)
def test_the_reach_of_the_service(commands: list[str], reach: Reach | None) -> None:
    service = _service(*commands) if commands else {**SERVICE, "ExecStart": ""}
    assert trim_schedule.timer_reach(_inside(service=service).facts()) == reach


@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        ("-a --types ext4", {"/"}),
        ("--all -t xfs,vfat", {"/srv"}),
        ("--all --types=noxfs", {"/"}),
        ("-a -t noext4,noxfs", set()),
        ("--fstab --types xfs", set()),
        ("-A -t ext4", {"/"}),
    ],
)
def test_types_of_filesystems_narrow_the_reach(arguments: str, targets: set[str]) -> None:
    mounts = [mounted("/", "/dev/vda1", "ext4"), mounted("/srv", "/dev/vdb1", "xfs")]
    inside = Inside(mounts=mounts, service=_service(f"/sbin/fstrim {arguments}"))
    assert trim_schedule.timer_reach(inside.facts()) == Reach(targets=frozenset(targets))


def test_an_empty_fstab_lists_nothing() -> None:
    inside = _inside(fstab="# none\n")
    assert trim_schedule.timer_reach(inside.facts()) == EVERYTHING
    inside.service = _service("/sbin/fstrim --listed-in /etc/fstab")
    assert trim_schedule.timer_reach(inside.facts()) == Reach()


def test_without_systemd_the_service_reaches_nothing() -> None:
    assert trim_schedule.timer_reach(_inside(tools=NO_SYSTEMD).facts()) == Reach()


# Filesystems ----------------------------------------------------------------------------------


def _missed(**more: Any) -> list[TrimReach]:
    return trim_schedule.untrimmed(_inside(**more).facts())


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        pytest.param({}, "not in fstab", id="not-in-fstab"),
        pytest.param({"fstab": f"{FSTAB}UUID=dddd /data xfs defaults\n"}, None, id="in-fstab"),
        pytest.param({"fstab": f"{FSTAB}UUID=dddd /data/ xfs defaults\n"}, None, id="with-a-slash"),
        pytest.param({"fstab": f"{FSTAB}UUID=dddd /data xfs X-fstrim.notrim\n"}, "X-fstrim.notrim", id="notrim"),
        pytest.param({"fstab": f"{FSTAB}UUID=dddd /data xfs ro\n"}, "read-only in fstab", id="read-only-in-fstab"),
        pytest.param({"fstab": f"{FSTAB}UUID=dddd /data xfs ro\nUUID=dddd /data xfs rw\n"}, None, id="one-entry-trims"),
        pytest.param({"options": "rw,discard"}, None, id="at-once"),
        pytest.param({"options": "rw,discard=async"}, None, id="at-once-in-btrfs-s-way"),
        pytest.param({"options": "rw,nodiscard"}, "not in fstab", id="not-at-once"),
        pytest.param({"service": _service("fstrim -a")}, None, id="everything"),
        pytest.param({"service": _service("fstrim /", "fstrim /data")}, None, id="named"),
        pytest.param({"cron": f"{WEEKLY}fstrim /data\n"}, None, id="by-cron"),
        pytest.param({"cron": f"{WEEKLY}fstrim /data\n", "daemons": ""}, "not in fstab", id="cron-does-not-run"),
    ],
)
def test_whether_the_second_disk_is_trimmed(more: dict[str, Any], problem: str | None) -> None:
    assert _missed(**more) == ([] if problem is None else [TrimReach("/data", problem)])


def test_a_service_of_targets_names_what_it_leaves_out() -> None:
    missed = _missed(service=_service("fstrim /data"), fstab="")
    assert missed == [TrimReach("/", trim_schedule.NOT_NAMED)]


def test_the_root_needs_no_line_in_an_fstab() -> None:
    assert _missed(fstab="UUID=dddd /data xfs defaults\n") == []


def test_a_timer_that_does_not_work_trims_nothing() -> None:
    stopped = {**TIMER, "ActiveState": "inactive"}
    assert _missed(timer=stopped) == [TrimReach("/", ""), TrimReach("/data", "not in fstab")]
    assert _missed(timer=stopped, cron=f"{WEEKLY}fstrim -a\n") == []


def test_a_service_that_runs_something_else_trims_nothing_that_is_known() -> None:
    assert _missed(service=_service("/usr/local/bin/trim")) == [TrimReach("/", ""), TrimReach("/data", "")]


@pytest.mark.parametrize("target", ["/home", "/home/a", "/root", "/root/x", "/run/user/0"])
def test_what_protect_home_hides_is_not_trimmed(target: str) -> None:
    def missed(protect: str, *others: str) -> list[TrimReach]:
        mounts = [mounted("/", "/dev/vda1", uuid="aaaa-1"), mounted(target, "/dev/vdb1", "xfs")]
        mounts += [mounted(other, "/dev/vdb1", "xfs") for other in others]
        service = {**_service("fstrim -a"), "ProtectHome": protect}
        return trim_schedule.untrimmed(_inside(mounts=mounts, service=service).facts())

    assert [reach.name for reach in missed("yes")] == [target]
    assert "ProtectHome=" in missed("read-only")[0].problem
    assert missed("no") == []
    assert missed("yes", "/srv") == []  # there it is seen


@pytest.mark.parametrize("target", ["/homes", "/srv/home", "/rooted"])
def test_what_protect_home_does_not_hide_is_trimmed(target: str) -> None:
    mounts = [mounted("/", "/dev/vda1", uuid="aaaa-1"), mounted(target, "/dev/vdb1", "xfs")]
    assert _missed(mounts=mounts, service={**_service("fstrim -a"), "ProtectHome": "yes"}) == []


def test_a_filesystem_that_is_mounted_twice_is_trimmed_by_either() -> None:
    mounts = [
        mounted("/", "/dev/vda1", uuid="aaaa-1"),
        mounted("/a", "/dev/vdb1", "xfs", "ro"),
        mounted("/b", "/dev/vdb1", "xfs"),
    ]
    assert _missed(mounts=mounts, fstab=f"{FSTAB}UUID=dddd /a xfs defaults\n") == []
    assert _missed(mounts=mounts) == [TrimReach("/b", "not in fstab")]


@pytest.mark.parametrize(
    ("mount", "device", "release", "takes"),
    [
        pytest.param(("ext4", "rw"), {}, "6.1.0", True, id="ext4"),
        pytest.param(("ext4", "ro"), {}, "6.1.0", False, id="read-only"),
        pytest.param(("minix", "rw"), {}, "6.1.0", False, id="minix"),
        pytest.param(("ext4", "rw"), {"ro": True}, "6.1.0", False, id="a-disk-that-is-only-read"),
        pytest.param(("vfat", "rw"), {}, "4.18.0-553.el8", False, id="vfat-before-4.19"),
        pytest.param(("vfat", "rw"), {}, "4.19.0", True, id="vfat-of-4.19"),
        pytest.param(("vfat", "rw"), {}, "10.1", True, id="vfat-of-10"),
        pytest.param(("vfat", "rw"), {}, "odd", True, id="vfat-of-an-unknown-kernel"),
    ],
)
def test_what_can_be_trimmed(mount: tuple[str, str], device: dict[str, Any], release: str, *, takes: bool) -> None:
    inside = Inside(
        devices=[block("vda", part("vda1", fstype=mount[0], **device))],
        mounts=[mounted("/boot/efi", "/dev/vda1", *mount)],
        release=release,
    )
    assert [one.target for one in trim_schedule.trimmable(inside.facts())] == ["/boot/efi"] * takes


# Lines of cron --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "is_trimmed"),
    [
        ("fstrim /data", True),
        ("/sbin/fstrim -v /data", True),
        ("test -x /sbin/fstrim && fstrim /data", True),
        ("fstrim /other; fstrim /data", True),
        ("fstrim -a", True),
        ("fstrim -a >/dev/null 2>&1", True),
        ("fstrim -av >> /var/log/trim", True),
        ("fstrim -v /data 2> /dev/null >>/var/log/trim", True),
        ("fstrim -v /data < /dev/null", True),
        ("fstrim / /data", False),
        ("fstrim -a /data", False),
        ("fstrim -v > /data", False),
        ("fstrim-all --no-model-check", True),
        ("fstrim-all", False),
        ("fstrim /other", False),
        ("fstrim '/data", False),
        ("fstrim /other # /data", False),
        ("fstrim /other && echo /data", False),
        ("xfstrim /data", False),
        ("fstrim.sh /data", False),
        ("fstrim" + " /x" * 2000 + " /data", False),
    ],
)
def test_a_line_of_cron_trims_what_it_names(line: str, *, is_trimmed: bool) -> None:
    missed = _missed(cron=f"{WEEKLY}{line}\n", timer={**TIMER, "ActiveState": "inactive"})
    assert ("/data" not in [reach.name for reach in missed]) is is_trimmed


# ZFS ------------------------------------------------------------------------------------------


def test_a_pool_is_trimmed_by_itself_or_by_cron() -> None:
    inside = Inside(zfs="tank\ton\nrpool\toff\nspare\toff\n", cron="/etc/cron.d/z\t0 0 * * 0 root zpool trim rpool\n")
    assert trim_schedule.untrimmed_pools(inside.facts()) == ["spare"]
    inside.daemons = ""
    assert trim_schedule.untrimmed_pools(inside.facts()) == ["rpool", "spare"]
    assert trim_schedule.untrimmed_pools(Inside().facts()) == []


# In words -------------------------------------------------------------------------------------


def test_a_filesystem_that_is_missed_has_its_reason_behind_it() -> None:
    assert str(TrimReach("/data")) == "/data"
    assert str(TrimReach("/data", "not in fstab")) == "/data (not in fstab)"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({}, None, id="timer-works"),
        pytest.param({"cron": "/etc/cron.d/trim\tfstrim -a\n"}, None, id="both-work"),
        pytest.param({"timer": {**TIMER, "LoadState": "masked"}}, "fstrim.timer is masked", id="timer-masked"),
        pytest.param(
            {"timer": {**TIMER, "LoadState": "masked"}, "cron": "/etc/cron.d/trim\tfstrim /\n"},
            "fstrim.timer is masked; cron trims not all",
            id="cron-trims-some",
        ),
        pytest.param(
            {"timer": {**TIMER, "LoadState": "masked"}, "cron": "/etc/cron.d/trim\tfstrim /\n", "daemons": ""},
            "fstrim.timer is masked; /etc/cron.d/trim trims, but no cron daemon runs",
            id="no-daemon",
        ),
    ],
)
def test_why_no_schedule_trims_all(more: dict[str, Any], words: str | None) -> None:
    assert trim_schedule.why_not_by_schedule(_inside(**more).facts()) == words


def test_swap_is_named_beside_the_filesystems() -> None:
    assert trim_schedule.trimmed(_inside().facts()) == "/, /data"
    swap = "/dev/vda5 partition 1048572 0 -2"
    words = "/, /data; swap (/dev/vda5) is trimmed only by swapon --discard"
    assert trim_schedule.trimmed(_inside(swaps=(swap,)).facts()) == words
