"""What a guest has to have again after a power cycle: no lost disk is missed, and what is no loss costs nothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pytest

from reclaim.base.errors import NotAssessable
from reclaim.handles import health
from reclaim.handles.health import Wellbeing, observe
from tests.support import Inside, block, inhabited, mounted, part, section

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIB = 1024**3
FSTAB = """UUID=root / ext4 defaults 0 1
UUID=data /data xfs defaults 0 0
UUID=pool /home btrfs subvol=home 0 0
UUID=pool /srv\\040two btrfs subvol=srv 0 0
UUID=swap none swap sw 0 0
/swapfile none swap sw 0 0
UUID=later /later ext4 noauto 0 0
UUID=lazy /lazy ext4 noauto,x-systemd.automount 0 0
"""


def link(name: str, *addresses: dict[str, Any]) -> dict[str, Any]:
    """A link as `ip -j address` writes it."""
    return {"ifname": name, "flags": ["UP"], "addr_info": list(addresses)}


def address(local: str, **more: Any) -> dict[str, Any]:
    family = "inet6" if ":" in local else "inet"
    return {"family": family, "local": local, "prefixlen": 24, "scope": "global", **more}


def units(*lines: str, state: str = "running") -> str:
    return "\n".join((state, *(f"{line.replace(' ', ' loaded ', 1)} x A description" for line in lines))) + "\n"


def usual() -> Inside:
    """A guest with all that can be lost."""
    return Inside(
        files={**Inside().files, "/etc/fstab": FSTAB},
        units={"/etc/systemd/system/mnt-unit.mount": "[Mount]\nWhat=/dev/disk/by-uuid/unit\nWhere=/mnt/unit\n"},
        devices=[
            block("vda", part("vda1", uuid="root", fstype="ext4"), part("vda2", uuid="swap", fstype="swap")),
            block("vdb", uuid="data", fstype="xfs", size=20 * GIB),
            block("vdc", uuid="pool", fstype="btrfs", size=30 * GIB),
            block("vdd", uuid="lvm", fstype="LVM2_member", size=40 * GIB),
            block("vde", uuid="later", fstype="ext4", size=GIB),
            block("vdf", uuid="lazy", fstype="ext4", size=GIB),
            block("vdg", uuid="unit", fstype="ext4", size=GIB),
            block("sr0", type="rom", uuid="2026-01-01", size=GIB),
            block("loop0", type="loop", uuid="image", size=GIB),
            block("zram0", uuid="zram", size=GIB),
        ],
        mounts=[
            mounted("/", "/dev/vda1", uuid="root"),
            mounted("/data", "/dev/vdb", "xfs", uuid="data"),
            mounted("/home", "/dev/vdc[/home]", "btrfs", uuid="pool", fsroot="/home"),
            mounted("/srv two", "/dev/vdc[/srv]", "btrfs", uuid="pool", fsroot="/srv"),
            mounted("/lazy", "systemd-1", "autofs"),
            mounted("/lazy", "/dev/vdf", uuid="lazy"),
            mounted("/later", "/dev/vde", uuid="later"),
            mounted("/mnt/unit", "/dev/vdg", uuid="unit"),
            mounted("/proc", "proc", "proc"),
            mounted("/run/media/cd", "/dev/sr0", "iso9660", uuid="2026-01-01"),
            mounted("/var/lib/docker/overlay2/x", "/dev/vda1", uuid="root"),
            mounted("/opt/image", "/dev/loop0", uuid="image"),
        ],
        swaps=("/dev/vda2 partition 1 0 -2", "/dev/zram0 partition 1 0 5", "/swapfile file 1 0 -3"),
        addresses=[
            link("lo", address("127.0.0.1", scope="host")),
            link(
                "ens3",
                address("192.0.2.10"),
                address("198.51.100.7", dynamic=True),
                address("2001:db8::1", dynamic=True),
                address("2001:db8::abcd", dynamic=True, temporary=True),
                address("fe80::1", scope="link"),
            ),
            link("docker0", address("172.17.0.1")),
            link("br-0123456789ab", address("172.18.0.1")),
            link("veth1", address("172.19.0.1")),
        ],
        systemd=units("ssh.service active", "postgresql.service active", "flaky.service failed"),
    )


def seen(tmp_path: Path, inside: Inside) -> Wellbeing:
    found = observe(inhabited(tmp_path, inside))
    assert found is not None
    return found


@pytest.fixture
def before(tmp_path: Path) -> Wellbeing:
    return seen(tmp_path, usual())


def after(tmp_path: Path, change: Callable[[Inside], object]) -> Wellbeing:
    inside = usual()
    change(inside)
    return seen(tmp_path, inside)


def without(inside: Inside, *targets: str) -> None:
    inside.mounts = [one for one in inside.mounts if one["target"] not in targets or one["fstype"] == "autofs"]


def unplugged(inside: Inside, *names: str) -> None:
    inside.devices = [one for one in inside.devices if one["name"] not in names]


def lose(inside: Inside, name: str, target: str) -> None:
    unplugged(inside, name)
    without(inside, target)


def renamed(inside: Inside) -> None:
    """As after a change of the bus."""
    text = json.dumps([inside.devices, inside.mounts]).replace("/dev/vd", "/dev/sd").replace('"vd', '"sd')
    inside.devices, inside.mounts = json.loads(text)
    inside.swaps = tuple(one.replace("/dev/vd", "/dev/sd") for one in inside.swaps)


def failed(inside: Inside, *names: str) -> None:
    inside.systemd += "".join(f"{name} loaded failed failed A description\n" for name in names)


def test_a_guest_that_is_as_before_lacks_nothing(tmp_path: Path, before: Wellbeing) -> None:
    same = seen(tmp_path, usual())
    assert (before.missing(same), before.remarks(same), before.strays) == ([], [], [])


def test_the_journal_gives_it_back(before: Wellbeing) -> None:
    assert Wellbeing(**json.loads(json.dumps(asdict(before)))) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda one: without(one, "/data"), "/data is not mounted", id="mount"),
        pytest.param(lambda one: without(one, "/home"), "/home is not mounted", id="one-of-two-subvolumes"),
        pytest.param(lambda one: without(one, "/srv two"), "/srv two is not mounted", id="escaped-in-fstab"),
        pytest.param(lambda one: without(one, "/mnt/unit"), "/mnt/unit is not mounted", id="mounted-by-a-unit"),
        pytest.param(lambda one: unplugged(one, "vdb"), "the content of /dev/vdb (UUID data) is not there", id="disk"),
        pytest.param(lambda one: unplugged(one, "vdd"), "the content of /dev/vdd (UUID lvm) is not there", id="lvm-pv"),
        pytest.param(lambda one: lose(one, "vdf", "/lazy"), "/lazy is not mounted", id="automount-gone"),
        pytest.param(lambda one: lose(one, "vde", "/later"), "(UUID later) is not there", id="noauto-gone"),
        pytest.param(lambda one: setattr(one, "swaps", one.swaps[1:]), "the swap swap is not in use", id="swap"),
        pytest.param(
            lambda one: setattr(one, "swaps", one.swaps[:2]), "the swap /swapfile is not in use", id="swapfile"
        ),
        pytest.param(
            lambda one: one.addresses[1]["addr_info"].pop(0), "it lost the address 192.0.2.10", id="fixed-address"
        ),
        pytest.param(
            lambda one: setattr(one, "addresses", one.addresses[2:]),
            "it has no IPv6 address any more (it had 2001:db8::1)",
            id="given-address",
        ),
        pytest.param(lambda one: failed(one, "postgresql.service"), "postgresql.service", id="service-that-ran"),
        pytest.param(lambda one: failed(one, "data.mount"), "data.mount", id="mount-unit"),
        pytest.param(
            lambda one: failed(one, "systemd-fsck@dev-disk-by\\x2duuid-data.service"), "systemd-fsck@", id="fsck"
        ),
    ],
)
def test_what_is_lost_is_named(
    tmp_path: Path, before: Wellbeing, change: Callable[[Inside], object], words: str
) -> None:
    assert words in "; ".join(before.missing(after(tmp_path, change)))


def test_another_filesystem_in_its_place_is_no_replacement(tmp_path: Path, before: Wellbeing) -> None:
    def swapped(inside: Inside) -> None:
        inside.mounts[1]["uuid"] = "lvm"

    assert before.missing(after(tmp_path, swapped)) == ["/data is mounted from another filesystem than before"]


def test_a_raw_disk_without_a_signature_is_counted(tmp_path: Path) -> None:
    inside = usual()
    inside.devices.append(block("vdz", size=50 * GIB))
    before = seen(tmp_path, inside)
    assert before.missing(seen(tmp_path, usual())) == ["a disk of 50.0 GiB is not there"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(renamed, id="every-disk-has-another-name"),
        pytest.param(lambda one: without(one, "/lazy"), id="automount-that-nobody-looked-into"),
        pytest.param(lambda one: without(one, "/later"), id="noauto"),
        pytest.param(lambda one: without(one, "/run/media/cd"), id="session"),
        pytest.param(lambda one: without(one, "/var/lib/docker/overlay2/x"), id="container"),
        pytest.param(lambda one: unplugged(one, "sr0", "loop0", "zram0"), id="cdrom-loop-zram"),
        pytest.param(lambda one: setattr(one, "addresses", one.addresses[:2]), id="links-of-containers"),
        pytest.param(
            lambda one: one.addresses[1]["addr_info"].__setitem__(3, address("2001:db8::ffff", temporary=True)),
            id="another-temporary-address",
        ),
        pytest.param(lambda one: one.devices[1].__setitem__("size", 25 * GIB), id="a-disk-that-grew"),
        pytest.param(lambda one: failed(one, "apt-daily.service", "user@1000.service"), id="units-that-did-not-run"),
    ],
)
def test_what_is_no_loss_rolls_nothing_back(
    tmp_path: Path, before: Wellbeing, change: Callable[[Inside], object]
) -> None:
    assert before.missing(after(tmp_path, change)) == []


#: as ip(8) shows what keepalived and pacemaker add beside the addresses of a link
FLOATING = [
    address("192.0.2.50", secondary=True),
    address("203.0.113.7", prefixlen=32),
    address("2001:db8::7", prefixlen=128),
]


def test_an_address_that_moved_to_another_machine_of_a_cluster_is_no_loss(tmp_path: Path) -> None:
    inside = usual()
    inside.addresses[1]["addr_info"] += FLOATING
    before = seen(tmp_path, inside)
    now = seen(tmp_path, usual())
    assert before.missing(now) == []
    gone = "the address 192.0.2.50, 2001:db8::7, 203.0.113.7, an additional one, is gone"
    assert before.remarks(now) == [f"{gone}: does another machine have it now?"]
    assert (before.missing(before), before.remarks(before)) == ([], [])


def test_an_address_that_stands_for_itself_is_a_guests_own_where_it_has_no_other(tmp_path: Path) -> None:
    inside = usual()
    inside.addresses[1]["addr_info"] = [address("203.0.113.7", prefixlen=32)]
    before = seen(tmp_path, inside)
    assert before.missing(seen(tmp_path, usual())) == ["it lost the address 203.0.113.7"]


def test_what_changed_without_a_loss_is_remarked(tmp_path: Path, before: Wellbeing) -> None:
    def other(inside: Inside) -> None:
        inside.addresses[1]["addr_info"][1]["local"] = "198.51.100.99"
        failed(inside, "apt-daily.service")

    now = after(tmp_path, other)
    assert before.missing(now) == []
    assert before.remarks(now) == [
        "198.51.100.7 is now 198.51.100.99",
        "units failed that did not before: apt-daily.service",
    ]


def test_what_is_mounted_by_hand_is_a_stray(tmp_path: Path) -> None:
    inside = usual()
    inside.devices.append(block("vdz", uuid="hand", fstype="ext4"))
    inside.mounts.append(mounted("/mnt/hand", "/dev/vdz", uuid="hand"))
    assert seen(tmp_path, inside).strays == ["/mnt/hand"]
    inside.files["/etc/fstab"] += "UUID=hand /mnt/hand ext4 noauto 0 0\n"
    assert seen(tmp_path, inside).strays == []


@pytest.mark.parametrize("path", ["/by-hand", "/dev/vdz"])
def test_swap_that_was_turned_on_by_hand_is_no_loss(tmp_path: Path, path: str) -> None:
    def inside(*swaps: str) -> Inside:
        found = usual()
        found.devices.append(block("vdz", uuid="hand", fstype="swap"))
        found.swaps += tuple(f"{one} file 1 0 -4" for one in swaps)
        return found

    before = seen(tmp_path, inside(path))
    now = seen(tmp_path, inside())
    name = path if path == "/by-hand" else "hand"
    assert before.missing(now) == []
    assert before.remarks(now) == [f"the swap {name} is off: neither fstab nor a unit turns it on at boot"]


@pytest.mark.parametrize("what", ["UUID=more", "/dev/disk/by-uuid/more", "/dev/vdz"])
def test_swap_that_a_unit_turns_on_is_a_loss(tmp_path: Path, what: str) -> None:
    inside = usual()
    inside.devices.append(block("vdz", uuid="more", fstype="swap"))
    inside.files["/etc/systemd/system/dev-vdz.swap"] = f"[Swap]\nWhat={what}\n"
    inside.swaps += ("/dev/vdz partition 1 0 -4",)
    before = seen(tmp_path, inside)
    inside.swaps = inside.swaps[:-1]
    assert before.missing(seen(tmp_path, inside)) == ["the swap more is not in use"]


def test_what_a_thrown_away_key_encrypts_has_another_uuid_each_time(tmp_path: Path) -> None:
    def inside(uuid: str) -> Inside:
        found = usual()
        found.devices += [block("vdz", block("scratch", type="crypt", path="/dev/mapper/scratch", uuid=uuid))]
        found.mounts += [mounted("/scratch", "/dev/mapper/scratch", uuid=uuid)]
        found.files["/etc/fstab"] += "/dev/mapper/scratch /scratch ext4 defaults 0 0\n"
        return found

    before = seen(tmp_path, inside("one"))
    assert before.missing(seen(tmp_path, inside("two"))) == []
    gone = inside("two")
    without(gone, "/scratch")
    assert before.missing(seen(tmp_path, gone)) == ["/scratch is not mounted"]


def test_it_is_told_apart_whether_systemd_still_starts_units(tmp_path: Path) -> None:
    for state, starting in (("starting", True), ("initializing", True), ("degraded", False), ("", False)):
        inside = usual()
        inside.systemd = units(state=state)
        assert seen(tmp_path, inside).starting is starting


# Where nothing can be run inside


ANSWERS: dict[str, Any] = {
    "guest-ping": {},
    "guest-get-fsinfo": [{"mountpoint": "/", "type": "ext4"}, {"mountpoint": "/data"}, {"mountpoint": "/run/x"}],
    "guest-network-get-interfaces": [
        {"name": "lo", "ip-addresses": [{"ip-address": "127.0.0.1"}]},
        {"name": "eth0", "ip-addresses": [{"ip-address": "192.0.2.1"}, {"ip-address": "fe80::1"}, {}]},
        {"name": "docker0", "ip-addresses": [{"ip-address": "172.17.0.1"}]},
        {"name": "eth1"},
    ],
}


def told(tmp_path: Path, **answers: Any) -> Wellbeing | None:
    inside = Inside(problem=NotAssessable("blocked"))  # type: ignore[arg-type]
    guest = inhabited(tmp_path, inside)
    values = {**ANSWERS, **{name.replace("_", "-"): value for name, value in answers.items()}}
    guest.answers = {name: lambda value=value: value for name, value in values.items() if value is not None}  # type: ignore[misc]
    return observe(guest)


def test_an_agent_that_runs_nothing_tells_mounts_and_addresses(tmp_path: Path) -> None:
    before = told(tmp_path)
    assert before is not None
    assert (before.inside, before.declared, before.given) == (False, ["/", "/data"], {"IPv4": ["192.0.2.1"]})
    now = told(tmp_path, guest_get_fsinfo=[{"mountpoint": "/"}], guest_network_get_interfaces=[])
    assert now is not None
    assert before.missing(now) == [
        "/data is not mounted",
        "it has no IPv4 address any more (it had 192.0.2.1)",
    ]


@pytest.mark.parametrize(
    "nonsense", [None, 1, "x", [1, None, {}], {"a": 1}, [{"mountpoint": 3, "name": 4}], [{"mountpoint": "/"}, 1]]
)
def test_an_agent_that_lies_costs_nothing(tmp_path: Path, nonsense: Any) -> None:
    found = told(tmp_path, guest_get_fsinfo=nonsense, guest_network_get_interfaces=nonsense)
    assert found is not None
    assert (found.mounts, found.given) == ({}, {})


def test_an_agent_that_is_silent_tells_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, guest_ping=None) is None


def test_without_ip_the_agent_is_asked_for_addresses(tmp_path: Path) -> None:
    inside = usual()
    guest = inhabited(tmp_path, inside)
    guest.answers = {"guest-network-get-interfaces": lambda: ANSWERS["guest-network-get-interfaces"]}
    facts = guest.facts
    object.__setattr__(facts, "sections", {**facts.sections, "addresses": section("", 127)})
    found = health.observe(guest)
    assert found is not None
    assert (found.inside, found.addresses, found.given) == (True, [], {"IPv4": ["192.0.2.1"]})
    assert replace(found, given={}).missing(found) == []
