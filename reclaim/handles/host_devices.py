"""Devices of the host that a start takes away from it, or from another guest (libvirt's formatdomain)."""

from __future__ import annotations

from collections.abc import Iterator

import libvirt

from reclaim.base.text import printable
from reclaim.definition import qemuargs
from reclaim.definition.domain import Definition, Element, parse_xml
from reclaim.handles.guest import Guest

#: types of `<interface>` that take a whole device
_INTERFACES = {
    "hostdev": "a network card of the host",
    "vdpa": "a vDPA device of the host",
}
_DISKS = {
    "nvme": "an NVMe controller of the host",
    "vhostuser": "a disk of another process (vhost-user)",
    "vhostvdpa": "a vDPA device of the host",
}
#: how a `<network>` hands out whole devices
_WHOLE = ("hostdev", "passthrough")
_LINES = ("serial", "parallel", "console", "channel", "redirdev", "smartcard")


def taken_by(guest: Guest, definition: Definition) -> list[str]:
    """Return the devices of the host that a start on *definition* takes, in words, each once."""
    root = definition.root
    devices = [
        *_hostdevs(root),
        *_interfaces(guest, root),
        *_disks(root),
        *_others(root),
        *qemuargs.host_devices(root),
    ]
    return list(dict.fromkeys(map(printable, devices)))


def _hostdevs(root: Element) -> Iterator[str]:
    for hostdev in root.iterfind("devices/hostdev"):
        kind = hostdev.get("type") or hostdev.get("mode") or "device"
        yield f"hostdev {kind} {_source(hostdev)}".strip()


#: attributes below `<source>` that do not identify the device
_NO_PLACE = ("type", "index", "startupPolicy", "guestReset")


def _source(device: Element) -> str:
    """Return the device as `<source>` names it. A USB device by its kind may be anywhere: libvirt adds the place."""
    source = device.find("source")
    if source is None:
        return ""
    by_kind = source.find("vendor") is not None
    parts: list[str] = []
    for part in source.iter():
        if not isinstance(part.tag, str) or (by_kind and part.tag == "address"):
            continue
        for key, value in part.items():
            if key not in _NO_PLACE:
                parts.append(f"{key}={value}")
    for named in source.iterchildren("block", "char", "interface"):
        parts.append((named.text or "").strip())
    return " ".join(parts)


def _interfaces(guest: Guest, root: Element) -> Iterator[str]:
    for interface in root.iterfind("devices/interface"):
        kind = interface.get("type", "")
        if kind in _INTERFACES:
            yield f"{_INTERFACES[kind]} (interface {kind} {_source(interface)})"
            continue
        source = interface.find("source")
        if source is None:
            continue
        network = source.get("network")
        if kind == "direct" and source.get("mode") == "passthrough":
            yield f"a network card of the host (interface direct, passthrough, {source.get('dev')})"
        elif kind == "network" and _forward(guest, str(network)) in _WHOLE:
            yield f"a network card of the host (interface of the network {network})"


def _forward(guest: Guest, network: str) -> str:
    """Return how libvirt's *network* leads out; "" if there is none of that name: then the guest does not start."""
    try:
        defined = guest.hypervisor.connection.networkLookupByName(network)
        xml = defined.XMLDesc(0)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (
            libvirt.VIR_ERR_NO_NETWORK,
            libvirt.VIR_ERR_NO_SUPPORT,
        ):
            return ""
        raise
    forward = parse_xml(xml, f"network {network}").find("forward")
    return "" if forward is None else forward.get("mode", "nat")


def _disks(root: Element) -> Iterator[str]:
    for disk in root.iterfind("devices/disk"):
        kind = disk.get("type", "")
        if kind in _DISKS:
            yield f"{_DISKS[kind]} (disk {_target(disk)}: {_source(disk)})"


def _target(disk: Element) -> str:
    target = disk.find("target")
    return "" if target is None else str(target.get("dev"))


def _others(root: Element) -> Iterator[str]:
    devices = root.find("devices")
    if devices is None:
        return
    for path in devices.iterfind("tpm/backend[@type='passthrough']/device"):
        yield f"its TPM ({path.get('path')})"
    for device in devices.iterchildren("input"):
        if device.get("type") in ("evdev", "passthrough"):
            yield f"an input device ({_source(device)})"
    for device in devices.iterchildren("smartcard"):
        if device.get("mode") in ("host", "host-certificates"):
            yield "its smartcard reader"
    for device in devices.iterchildren(*_LINES):
        if device.get("type") == "dev":
            yield f"{device.tag!s} {_source(device)}"
    for path in devices.iterfind("memory/source/path"):
        backing = str(path.text or "")
        if backing.startswith("/dev/"):
            yield f"persistent memory ({backing})"
