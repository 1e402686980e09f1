"""The changes that libvirt is known to refuse for a running disk.

Measured with libvirt 9.0.0 and QEMU 7.2 (`reclaim.changes.live_update`).
"""

from __future__ import annotations

#: the newest libvirt whose refusals are known (virConnectGetLibVersion's number)
_KNOWN_TO = 11_999_999
_REFUSALS = {
    "discard": "Operation not supported: cannot modify field 'discard' of the disk",
    "discard_no_unref": "Operation not supported: cannot modify field 'discard_no_unref' of the disk",
    "detect_zeroes": "it accepts another detect_zeroes and changes nothing",
}


def known(libvirt_version: int) -> dict[str, str]:
    """Return the changes that this libvirt refuses for a running disk, in its words; none of a newer, unknown one."""
    return dict(_REFUSALS) if libvirt_version <= _KNOWN_TO else {}
