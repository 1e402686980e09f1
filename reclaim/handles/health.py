"""The health of a guest: everything that it had while it ran, and has to have again after a power cycle."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

from reclaim.base.errors import NotAssessable, ProbeError
from reclaim.base.text import size, some
from reclaim.handles.agent_answers import AgentFilesystem, Interface
from reclaim.handles.guest import Guest
from reclaim.inside import fstab
from reclaim.inside.devices import BlockDevice
from reclaim.inside.facts import Facts

#: mounts below come and go with sessions and containers
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
#: seconds for one answer of the agent
_AGENT_SECONDS = 5


@dataclass(frozen=True)
class Wellbeing:
    """The state of a guest at one moment. Plain values: the journal keeps them.

    `inside` is False if only the agent was asked, which runs nothing there: then there are no UUIDs.
    """

    #: mount point -> UUID of its filesystem; "" if it is not known, or another at each boot
    mounts: dict[str, str]
    #: mount points that fstab(5) or a unit mounts at boot
    declared: list[str] = field(default_factory=list)
    #: mount points that are mounted at the first access
    automounts: list[str] = field(default_factory=list)
    #: mount points that fstab has, and does not mount at boot
    noauto: list[str] = field(default_factory=list)
    #: UUID -> the block device that has it, if it can be seen without a passphrase
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
        """Return its losses until *now*, in words."""
        return [
            *self._missing_mounts(now),
            *self._missing_devices(now),
            *self._missing_addresses(now),
            *self._failed(now, counted=True),
        ]

    def remarks(self, now: Wellbeing) -> list[str]:
        """Return the changes until *now* that are no loss, in words."""
        remarks = []
        for family, before in self.given.items():
            given = now.given.get(family)
            if given is not None and set(before).isdisjoint(given):
                remarks.append(f"{', '.join(before)} is now {', '.join(given)}")
        present = now.all_addresses
        gone = [address for address in self.floating if address not in present]
        if gone:
            remarks.append(
                f"the address {', '.join(gone[:_SHOWN])}, an additional one, is gone: does another machine have it now?"
            )
        swaps = {*now.swaps, *now.other_swaps}
        off = [swap for swap in self.other_swaps if swap not in swaps]
        if off:
            remarks.append(
                f"the swap {', '.join(off[:_SHOWN])} is off: neither fstab nor a unit turns it on at boot"
            )
        return remarks + self._failed(now, counted=False)

    @property
    def all_addresses(self) -> set[str]:
        """Return own, floating and given addresses."""
        given = chain.from_iterable(self.given.values())
        return {*self.addresses, *self.floating, *given}

    @property
    def strays(self) -> list[str]:
        """Return the mount points of disks that are mounted by no known means.

        They are mounted by hand, or by a script that knows them by name.
        """
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
            if target in now.mounts:
                if uuid and now.mounts[target] != uuid:
                    yield f"{target} is mounted from another filesystem than before"
                continue
            is_gone = uuid != "" and uuid not in now.devices
            if target not in automounts or is_gone:
                yield f"{target} is not mounted"

    def _missing_devices(self, now: Wellbeing) -> Iterator[str]:
        if not now.inside:
            return
        for uuid, device in self.devices.items():
            if uuid not in now.devices:
                yield f"the content of {device} (UUID {uuid}) is not there"
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
        present = now.all_addresses
        lost = [address for address in self.addresses if address not in present]
        if lost:
            yield f"it lost the address {', '.join(lost[:_SHOWN])}"
        families = set(map(_family, present))
        for family, before in self.given.items():
            if family in families:
                continue
            yield f"it has no {family} address any more (it had {', '.join(before[:_SHOWN])})"

    def _failed(self, now: Wellbeing, *, counted: bool) -> list[str]:
        """Return the units that failed and had not before: those that the guest had running, or the others."""
        before, ran = set(self.failed_units), set(self.units)
        failed = []
        for unit in now.failed_units:
            if unit in before or not _UNIT.match(unit):
                continue
            counts = unit in ran or _STORAGE_UNIT.match(unit) is not None
            if counts == counted:
                failed.append(unit)
        if not failed:
            return []
        return [f"units failed that did not before: {some(failed, _SHOWN)}"]


def observe(guest: Guest) -> Wellbeing | None:
    """Return the state of the guest now, by its facts, else by its agent's answers; None if neither can be had."""
    try:
        facts = guest.facts
        health = of(facts)
    except (NotAssessable, ProbeError):
        return _by_agent(guest)
    if facts.addresses is None:  # there is no ip(8)
        return _with_given(health, guest)
    return health


def of(facts: Facts) -> Wellbeing:
    """Return the state of the guest of *facts*. Raises ProbeError if they lack it."""
    mounts: dict[str, str] = {}
    automounts = set()
    for mount in facts.mounts:
        if mount.fstype == "autofs":
            automounts.add(mount.target)
        if mount.uuid and not _EPHEMERAL.match(mount.target):
            is_rekeyed = _is_rekeyed(facts, mount.source)
            mounts[mount.target] = "" if is_rekeyed else mount.uuid
    disks = []
    for device in facts.block_devices:
        if device.type == "disk" and _DISK.match(device.name):
            disks.append(device.size)
    declared, noauto = _declared(facts)
    swaps, at_boot = set(_swaps(facts)), set(_declared_swaps(facts))
    own, floating, given = _addresses(facts)
    return Wellbeing(
        mounts=mounts,
        declared=sorted(mounts.keys() & declared),
        automounts=sorted(automounts),
        noauto=sorted(mounts.keys() & noauto),
        devices=dict(_uuids(facts.block_devices)),
        disks=sorted(disks),
        swaps=sorted(swaps & at_boot),
        other_swaps=sorted(swaps - at_boot),
        addresses=own,
        floating=floating,
        given=given,
        units=sorted(filter(_UNIT.match, facts.active_units)),
        failed_units=sorted(facts.failed_units),
        starting=facts.is_starting,
    )


def _addresses(facts: Facts) -> tuple[list[str], list[str], dict[str, list[str]]]:
    """Return the addresses that are the guest's own, those beside them, and those that it is given, by family."""
    known = []
    for address in facts.addresses or ():
        if not _FOREIGN_LINK.match(address.link):
            known.append(address)
    # the only one of its family on a link is the guest's own, whatever its prefix
    main = {(plain.link, _family(plain.address)) for plain in known if not plain.added}
    floating: set[str] = set()
    given: dict[str, list[str]] = {}
    for address in known:
        family = _family(address.address)
        if address.added and (address.link, family) in main:
            floating.add(address.address)
        if address.dynamic:
            given.setdefault(family, []).append(address.address)
    own = []
    for address in known:
        if not address.dynamic and address.address not in floating:
            own.append(address.address)
    floating.difference_update(*given.values())
    return sorted(own), sorted(floating), given


def _declared(facts: Facts) -> tuple[set[str], set[str]]:
    """Return the mount points that are mounted at boot, and those that fstab leaves for later."""
    entries = _entries(facts)
    later = {
        entry.target.rstrip("/")
        for entry in entries
        if "noauto" in entry.options and "x-systemd.automount" not in entry.options
    }
    at_boot = {entry.target.rstrip("/") or "/" for entry in entries} - later
    units = {
        target.rstrip(" \t")
        for text in facts.units.values()
        for target in _WHERE.findall(text)
    }
    return at_boot | units | (_DISCOVERED - later), later - units


def _entries(facts: Facts) -> list[fstab.FstabEntry]:
    try:
        return list(fstab.listed(facts))
    except ProbeError:  # there is none
        return []


def _is_rekeyed(facts: Facts, source: str) -> bool:
    """True if the filesystem may be made anew at each boot, on a key that is thrown away.

    crypttab(5), tmp and swap.
    """
    device = facts.device(source.partition("[")[0])
    return device is not None and device.type == "crypt"


def _uuids(devices: tuple[BlockDevice, ...]) -> Iterator[tuple[str, str]]:
    """Yield each UUID that is on the disks themselves.

    A filesystem behind a passphrase may be opened by hand, later.
    """
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
    """Yield the swaps that fstab or a unit turns on at boot, as `_swaps` names them."""
    entries = [*_swap_entries(facts), *_swap_units(facts)]
    for tag in {entry.tag for entry in entries if entry.tag is not None}:
        for device in facts.with_tag.get(tag, ()):
            if device.uuid:
                yield device.uuid
    for entry in entries:
        if entry.tag is not None:
            continue
        named = facts.device(fstab.path_of(entry.source))
        if named is not None and named.uuid:
            yield named.uuid
        else:
            yield entry.source


def _swap_entries(facts: Facts) -> Iterator[fstab.FstabEntry]:
    """Yield the swaps that fstab turns on at boot."""
    for entry in _entries(facts):
        if entry.fstype == "swap" and "noauto" not in entry.options:
            yield entry


def _swap_units(facts: Facts) -> Iterator[fstab.FstabEntry]:
    """Yield the swaps of systemd.swap(5) units, as fstab would have them."""
    for path, text in facts.units.items():
        if not path.endswith(".swap"):
            continue
        for source in _WHAT.findall(text):
            yield fstab.FstabEntry(0, fstab.unescape(source), "", "swap", ())


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


# By typed calls -------------------------------------------------------------------------------


def _by_agent(guest: Guest) -> Wellbeing | None:
    """Return the state by answers of the agent that run nothing in the guest."""
    if not guest.can_be_looked_into or not _answers(guest):
        return None
    mounts: dict[str, str] = {}
    for filesystem in _filesystems(guest):
        target = filesystem.mount
        if target.startswith("/") and not _EPHEMERAL.match(target):
            mounts[target] = ""
    return _with_given(Wellbeing(mounts, declared=sorted(mounts), inside=False), guest)


def _answers(guest: Guest) -> bool:
    try:
        return guest.agent.command("guest-ping", seconds=_AGENT_SECONDS) is not None
    except ProbeError:
        return False


def _filesystems(guest: Guest) -> list[AgentFilesystem]:
    """Return the filesystems that the agent reports; none if it does not."""
    try:
        return guest.agent.filesystems(seconds=_AGENT_SECONDS)
    except ProbeError:
        return []


def _interfaces(guest: Guest) -> list[Interface]:
    """Return the interfaces that the agent reports; none if it does not."""
    try:
        return guest.agent.interfaces(seconds=_AGENT_SECONDS)
    except ProbeError:
        return []


def _with_given(health: Wellbeing, guest: Guest) -> Wellbeing:
    """Return *health* with the addresses that the agent reports. It does not report which are given for a time."""
    given: dict[str, list[str]] = {}
    for link in _interfaces(guest):
        if _FOREIGN_LINK.match(link.name):
            continue
        for address in filter(_is_global, link.addresses):
            given.setdefault(_family(address), []).append(address)
    return replace(health, given=given)


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
