"""A mark in a running domain of the run that started it: libvirt forgets it together with its QEMU."""

from __future__ import annotations

import contextlib
from html import escape

import libvirt

#: the namespace of the mark, in the metadata of the running domain and never of its definition
URI = "urn:reclaim:booted"


def leave(domain: libvirt.virDomain, run: str) -> None:
    """Mark the running QEMU of *domain* as started by *run*."""
    # without the mark all that is lost is the tidying up after a run that dies
    with contextlib.suppress(libvirt.libvirtError):
        domain.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT,
            f'<booted run="{escape(run)}"/>',
            "reclaim",
            URI,
            libvirt.VIR_DOMAIN_AFFECT_LIVE,
        )


def is_of(domain: libvirt.virDomain, run: str) -> bool:
    """True if the QEMU that runs now carries the mark of *run*. Raises libvirtError if libvirt does not answer."""
    try:
        xml = domain.metadata(
            libvirt.VIR_DOMAIN_METADATA_ELEMENT, URI, libvirt.VIR_DOMAIN_AFFECT_LIVE
        )
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN_METADATA,
            libvirt.VIR_ERR_OPERATION_INVALID,
        ):
            return False
        raise
    return f'run="{escape(run)}"' in str(xml).replace("'", '"')
