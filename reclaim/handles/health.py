"""How a guest is: what it had while it ran, and has to have again after a power cycle."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.text import size
from reclaim.inside import fstab
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts

if TYPE_CHECKING:
    from reclaim.handles.guest import Guest

#: what is mounted below comes and goes with sessions and containers
_EPHEMERAL = re.compile(
    r"/(?:run|proc|sys|dev|snap|var/snap|var/lib/(?:docker|containers|containerd|kubelet|lxc|lxd|rancher|nfs))(?:/|\Z)"
)
#: mounted by systemd-gpt-auto-generator(8) without a word in fstab
_DISCOVERED = frozenset(
    {
        "/",
        "/boot",
        "/boot/efi",
        "/efi",
        "/home",
        "/srv",
        "/usr",
        "/var",
        "/var/tmp",  # noqa: S108
        "/tmp",  # noqa: S108
    }
)
#: links that container engines, hypervisors and tunnels make: they come with their own daemons
_FOREIGN_LINK = re.compile(
    r"(?:lo|docker\d+|docker_gwbridge|br-[0-9a-f]{12}|veth.*|virbr\d.*|vnet\d+|cni.*|flannel.*|cali.*|vxlan.*|cilium.*"
    r"|lxc.*|lxdbr\d+|podman\d*|tun\d*|tap.*|wg.*|tailscale.*|zt.*|kube-.*|nodelocaldns|weave|ppp\d+)\Z"
)
#: whole disks that a hypervisor gives; not zram, loop, nbd, floppies
_DISK = re.compile(r"(?:[shv]d[a-z]+|xvd[a-z]+|nvme\d+n\d+)\Z")
_WHAT = re.compile(r"^[ \t]*What[ \t]*=[ \t]*(\S+)[ \t]*$", re.MULTILINE)
_WHERE = re.compile(r"^[ \t]*Where[ \t]*=[ \t]*(/.*)$", re.MULTILINE)
#: units worth comparing; those of sessions are the users'
_UNIT = re.compile(
    r"(?!user[@-]|user-runtime-dir@|session-|run-).+\.(?:service|socket|mount|automount|swap|timer|path)\Z"
)
#: units that stand for a disk: their failure counts although they were not there before
_STORAGE_UNIT = re.compile(
    r".+\.(?:mount|automount|swap)\Z|systemd-(?:fsck|cryptsetup)@.+|lvm2?-.+|mdadm?.*|zfs-.+"
)
_SHOWN = 5


@dataclass(frozen=True)
class Wellbeing:
    """What a guest has at one moment. Plain values: the journal keeps them.

    `inside` is False where only the agent was asked, which runs nothing there: then there are no UUIDs.
    """

    #: mount point -> UUID of its filesystem; "" where it is not known, or another at each boot
    mounts: dict[str, str]
    #: mount points that fstab(5) or a unit mounts at boot
    declared: list[str] = field(default_factory=list)
    #: mount points that are mounted when somebody looks there
    automounts: list[str] = field(default_factory=list)
    #: mount points that fstab has, and does not mount at boot
    noauto: list[str] = field(default_factory=list)
    #: UUID -> the block device that has it, where it can be seen without a passphrase
    devices: dict[str, str] = field(default_factory=dict)
    #: bytes of each whole disk
    disks: list[int] = field(default_factory=list)
    #: UUIDs of swap devices, paths of swap files, of those that fstab or a unit turns on at boot
    swaps: list[str] = field(default_factory=list)
    #: those that were turned on by hand, or by a daemon as it needs them
    other_swaps: list[str] = field(default_factory=list)
    #: addresses that are its own
    addresses: list[str] = field(default_factory=list)
    #: addresses beside its own ones, which may be those of a cluster: another machine may have them by now
    floating: list[str] = field(default_factory=list)
    #: addresses that it is given, by family: the next may be another
    given: dict[str, list[str]] = field(default_factory=dict)
    units: list[str] = field(default_factory=list)
    failed_units: list[str] = field(default_factory=list)
    #: systemd has not started everything yet
    starting: bool = False
    inside: bool = True

    def missing(self, now: Wellbeing) -> list[str]:
        """What it had and has no more, in words."""
        return [
            *self._missing_mounts(now),
            *self._missing_devices(now),
            *self._missing_addresses(now),
            *self._failed(now, counted=True),
        ]

    def remarks(self, now: Wellbeing) -> list[str]:
        """What is another than before and no loss, in words."""
        found = [
            f"{', '.join(before)} is now {', '.join(now.given[family])}"
            for family, before in self.given.items()
            if family in now.given and not set(before) & set(now.given[family])
        ]
        has, swaps = now.all_addresses, {*now.swaps, *now.other_swaps}
        if gone := [one for one in self.floating if one not in has]:
            found.append(
                f"the address {', '.join(gone[:_SHOWN])}, one beside others, is not here: another machine's now?"
            )
        if off := [one for one in self.other_swaps if one not in swaps]:
            found.append(
                f"the swap {', '.join(off[:_SHOWN])} is off: neither fstab nor a unit turns it on at boot"
            )
        return found + self._failed(now, counted=False)

    @property
    def all_addresses(self) -> set[str]:
        """Own, floating and given ones."""
        return {
            *self.addresses,
            *self.floating,
            *(one for several in self.given.values() for one in several),
        }

    @property
    def strays(self) -> list[str]:
        """Mount points of disks that nothing known mounts at boot: by hand, or by a script that knows them by name."""
        expected = {
            self.mounts[target]
            for target in (*self.declared, *self.automounts)
            if target in self.mounts
        }
        noauto = set(self.noauto)
        return [
            target
            for target, uuid in self.mounts.items()
            if uuid
            and uuid not in expected
            and target not in noauto
            and uuid in self.devices
        ]

    def _missing_mounts(self, now: Wellbeing) -> Iterator[str]:
        automounts = set(now.automounts)
        for target in self.declared:
            uuid = self.mounts[target]
            if target not in now.mounts:
                if target not in automounts or (uuid and uuid not in now.devices):
                    yield f"{target} is not mounted"
            elif uuid and now.mounts[target] != uuid:
                yield f"{target} is mounted from another filesystem than before"

    def _missing_devices(self, now: Wellbeing) -> Iterator[str]:
        if not now.inside:
            return
        for uuid, device in self.devices.items():
            if uuid not in now.devices:
                yield f"what was on {device} (UUID {uuid}) is not there"
        left = sorted(now.disks, reverse=True)
        for number, bytes_ in enumerate(
            sorted(self.disks, reverse=True)
        ):  # a disk may have grown
            if number >= len(left) or left[number] < bytes_:
                yield f"a disk of {size(bytes_)} is not there"
                break
        swaps = {*now.swaps, *now.other_swaps}
        for swap in self.swaps:
            if swap not in swaps:
                yield f"the swap {swap} is not in use"

    def _missing_addresses(self, now: Wellbeing) -> Iterator[str]:
        has = now.all_addresses
        if lost := [one for one in self.addresses if one not in has]:
            yield f"it lost the address {', '.join(lost[:_SHOWN])}"
        families = set(map(_family, has))
        for family, before in self.given.items():
            if family not in families:
                yield f"it has no {family} address any more (it had {', '.join(before[:_SHOWN])})"

    def _failed(self, now: Wellbeing, *, counted: bool) -> list[str]:
        """Units that failed and had not before: those that the guest had running, or the others."""
        before, ran = set(self.failed_units), set(self.units)
        failed = [
            unit
            for unit in now.failed_units
            if unit not in before
            and _UNIT.match(unit)
            and (unit in ran or _STORAGE_UNIT.match(unit) is not None) == counted
        ]
        more = f" and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        return (
            [f"units failed that did not before: {', '.join(failed[:_SHOWN])}{more}"]
            if failed
            else []
        )


def observe(guest: Guest) -> Wellbeing | None:
    """How the guest is now, by its facts, else by what its agent says; None where nobody can tell."""
    try:
        facts = guest.facts
        found = of(facts)
    except (NotAssessable, ProbeError):
        return _by_agent(guest)
    if facts.addresses is None:  # there is no ip(8)
        return _with_given(found, _answered(guest, "guest-network-get-interfaces"))
    return found


def of(facts: Facts) -> Wellbeing:
    """How the guest of *facts* is. Raises ProbeError where they do not say."""
    mounts = {
        mount.target: "" if _is_rekeyed(facts, mount.source) else mount.uuid
        for mount in facts.mounts
        if mount.uuid and not _EPHEMERAL.match(mount.target)
    }
    declared, noauto = _declared(facts)
    swaps, at_boot = set(_swaps(facts)), set(_declared_swaps(facts))
    addresses = [
        one for one in facts.addresses or () if not _FOREIGN_LINK.match(one.link)
    ]
    # where it is the only one of its family on that link it is the guest's own, whatever its prefix
    main = {(one.link, _family(one.address)) for one in addresses if not one.added}
    floating = {
        one.address
        for one in addresses
        if one.added and (one.link, _family(one.address)) in main
    }
    given: dict[str, list[str]] = {}
    for one in addresses:
        if one.dynamic:
            given.setdefault(_family(one.address), []).append(one.address)
    return Wellbeing(
        mounts=mounts,
        declared=sorted(target for target in mounts if target in declared),
        automounts=sorted(
            {mount.target for mount in facts.mounts if mount.fstype == "autofs"}
        ),
        noauto=sorted(target for target in mounts if target in noauto),
        devices=dict(_uuids(facts.block_devices)),
        disks=sorted(
            one.size
            for one in facts.block_devices
            if one.type == "disk" and _DISK.match(one.name)
        ),
        swaps=sorted(swaps & at_boot),
        other_swaps=sorted(swaps - at_boot),
        addresses=sorted(
            one.address
            for one in addresses
            if not one.dynamic and one.address not in floating
        ),
        floating=sorted(
            floating - {one for several in given.values() for one in several}
        ),
        given=given,
        units=sorted(filter(_UNIT.match, facts.active_units)),
        failed_units=sorted(facts.failed_units),
        starting=facts.is_starting,
    )


def _declared(facts: Facts) -> tuple[set[str], set[str]]:
    """The mount points that are mounted at boot, and those that fstab leaves for later."""
    entries = _entries(facts)
    later = {
        one.target.rstrip("/")
        for one in entries
        if "noauto" in one.options and "x-systemd.automount" not in one.options
    }
    at_boot = {one.target.rstrip("/") or "/" for one in entries} - later
    units = {
        where.rstrip(" \t")
        for text in facts.units.values()
        for where in _WHERE.findall(text)
    }
    return at_boot | units | (_DISCOVERED - later), later - units


def _entries(facts: Facts) -> list[fstab.FstabEntry]:
    try:
        return list(fstab.listed(facts))
    except ProbeError:  # there is none
        return []


def _is_rekeyed(facts: Facts, source: str) -> bool:
    """May the filesystem be made anew at each boot, on a key that is thrown away (crypttab(5), tmp and swap)?"""
    device = facts.device(source.partition("[")[0])
    return device is not None and device.type == "crypt"


def _uuids(devices: tuple[BlockDevice, ...]) -> Iterator[tuple[str, str]]:
    """Each UUID that is on the disks themselves; what a passphrase opens may be opened by hand, later."""
    for device in devices:
        if device.type in ("loop", "rom", "crypt") or device.name.startswith(
            ("zram", "nbd", "ram")
        ):
            continue
        if device.uuid:
            yield device.uuid, device.path
        yield from _uuids(device.children)


def _swaps(facts: Facts) -> Iterator[str]:
    lasting = dict(_uuids(facts.block_devices))
    for path in facts.swaps:
        if not path.startswith("/dev/"):
            yield path
        elif (device := facts.device(path)) is not None and device.uuid in lasting:
            yield device.uuid


def _declared_swaps(facts: Facts) -> Iterator[str]:
    """What fstab or a unit turns on at boot, as `_swaps` names it."""
    entries = [
        one
        for one in _entries(facts)
        if one.fstype == "swap" and "noauto" not in one.options
    ]
    for path, text in facts.units.items():
        found = _WHAT.findall(text) if path.endswith(".swap") else []
        entries += [
            fstab.FstabEntry(0, fstab.unescape(source), "", "swap", ())
            for source in found
        ]
    for tag in {entry.tag for entry in entries if entry.tag is not None}:
        yield from (one.uuid for one in facts.with_tag.get(tag, ()) if one.uuid)
    for entry in entries:
        if entry.tag is not None:
            continue
        if (
            device := facts.device(fstab.path_of(entry.source))
        ) is not None and device.uuid:
            yield device.uuid
        else:
            yield entry.source


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


# By typed calls -------------------------------------------------------------------------------


def _by_agent(guest: Guest) -> Wellbeing | None:
    """What the agent says without running anything in the guest (QEMU's qga/qapi-schema.json)."""
    if not guest.can_be_looked_into or _answered(guest, "guest-ping") is None:
        return None
    listed = _answered(guest, "guest-get-fsinfo")
    targets = (
        [one.get("mountpoint") for one in listed if isinstance(one, dict)]
        if isinstance(listed, list)
        else []
    )
    mounts = {
        one: ""
        for one in targets
        if isinstance(one, str) and one.startswith("/") and not _EPHEMERAL.match(one)
    }
    found = Wellbeing(mounts, declared=sorted(mounts), inside=False)
    return _with_given(found, _answered(guest, "guest-network-get-interfaces"))


def _with_given(found: Wellbeing, answer: Any) -> Wellbeing:
    """*found* with the addresses that the agent tells; it does not tell which were given for a time."""
    given: dict[str, list[str]] = {}
    for link in answer if isinstance(answer, list) else ():
        if not isinstance(link, dict) or _FOREIGN_LINK.match(str(link.get("name"))):
            continue
        listed = link.get("ip-addresses")
        for one in listed if isinstance(listed, list) else ():
            address = str(one.get("ip-address")) if isinstance(one, dict) else ""
            if _is_global(address):
                given.setdefault(_family(address), []).append(address)
    values = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return Wellbeing(**{**values, "given": given})


def _is_global(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (
        parsed.is_link_local
        or parsed.is_loopback
        or parsed.is_multicast
        or parsed.is_unspecified
    )


def _answered(guest: Guest, command: str) -> Any:
    """What the agent answers; None where it does not."""
    try:
        return guest.agent.command(command, seconds=5)
    except ProbeError:
        return None
