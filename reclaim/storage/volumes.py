"""The volumes of libvirt's storage pools, as places: a path, or `protocol:name` for a place that is no file here."""

from __future__ import annotations

import libvirt

from reclaim.definition.domain import Element, parse_xml
from reclaim.storage import backing

_ABSENT = (
    libvirt.VIR_ERR_NO_STORAGE_POOL,
    libvirt.VIR_ERR_NO_STORAGE_VOL,
    libvirt.VIR_ERR_OPERATION_INVALID,
)
#: kinds of pools whose volumes are files, or devices, of the folder that is the pool's target (libvirt formatstorage)
_FOLDERS = ("dir", "fs", "netfs", "logical", "disk", "mpath", "zfs", "vstorage")


def path(connection: libvirt.virConnect, pool: str, volume: str) -> str:
    """Return the path of a volume as libvirt has it, which is no path of this machine for a pool on a network.

    Raises libvirtError, also if the pool is not active, or was not refreshed since the volume was made.
    """
    return _path(connection.storagePoolLookupByName(pool), volume)


def _path(pool: libvirt.virStoragePool, volume: str) -> str:
    return str(pool.storageVolLookupByName(volume).path())


def place(connection: libvirt.virConnect, pool: str, volume: str) -> str:
    """Return the place of a volume, also of one that libvirt does not list; `volume:pool/name` if it has no such pool.

    Raises libvirtError.
    """
    unknown = f"volume:{pool}/{volume}"
    try:
        defined = connection.storagePoolLookupByName(pool)
        root = parse_xml(defined.XMLDesc(0), f"pool {pool}")
        try:
            known = _path(defined, volume)
        except libvirt.libvirtError as exc:
            if exc.get_error_code() not in _ABSENT:
                raise
            return expected(root, volume) or unknown
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (*_ABSENT, libvirt.VIR_ERR_NO_SUPPORT):
            return unknown
        raise
    if known.startswith("/"):
        return known
    return backing.network(f"{root.get('type')}:{known}")


def expected(pool: Element, volume: str) -> str:
    """Return the place that a volume of that name has if it is in the pool; "" if that is not known."""
    kind = pool.get("type")
    if kind in _FOLDERS:
        folder = str(pool.findtext("target/path") or "")
        if folder.startswith("/"):
            return f"{folder.rstrip('/')}/{volume}"
    if kind == "rbd":
        name = str(pool.findtext("source/name") or "")
        if name:
            return backing.network(f"rbd:{name}/{volume}")
    return ""
