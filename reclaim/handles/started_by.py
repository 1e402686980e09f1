"""A mark in a running domain of the run that started it: libvirt forgets it together with its QEMU."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import libvirt

if TYPE_CHECKING:
    from reclaim.handles.guest import Guest

#: the namespace of the mark, in the metadata of the running domain and never of its definition
URI = "urn:reclaim:booted"


def leave(guest: Guest, run: str) -> None:
    """Mark the running QEMU of *guest* as started by *run*."""
    # without the mark all that is lost is the tidying up after a run that dies
    with contextlib.suppress(libvirt.libvirtError):
        guest.domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            f"<booted run={quoteattr(run)}/>",
            "reclaim",
            URI,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )


def is_of(guest: Guest, run: str) -> bool:
    """Does the QEMU that runs now carry the mark of *run*? Raises libvirtError where libvirt cannot tell."""
    try:
        xml = guest.domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, URI, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_OPERATION_INVALID):
            return False
        raise
    return f"run={quoteattr(run)}" in str(xml).replace("'", '"')
