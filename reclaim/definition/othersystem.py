"""Systems that are no Linux, by what a definition's `<metadata>` says of its guest.

Only notes that are made for this count: libosinfo's ids (virt-install, virt-manager, GNOME Boxes, cockpit), unraid's
template. A guest's name, its title or its hardware prove nothing.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

from lxml import etree

#: the systems of osinfo-db whose family is not linux, and their kin: the words that stand for them in an id
_WORDS = {
    "Windows": "win windows winnt winxp winme win2k winvista windowsxp windowsvista mswindows",
    "DOS": "msdos freedos",
    "macOS": (
        "mac macintosh macos macosx osx darwin highsierra mojave catalina bigsur monterey ventura sonoma sequoia tahoe"
    ),
    "FreeBSD": "freebsd freenas nas4free xigmanas trueos pcbsd ghostbsd hardenedbsd midnightbsd nomadbsd hellosystem",
    "OPNsense": "opnsense",
    "pfSense": "pfsense",
    "OpenBSD": "openbsd",
    "NetBSD": "netbsd",
    "DragonFly BSD": "dragonfly dragonflybsd",
    "a BSD": "bsd",
    "Solaris": "solaris opensolaris sunos",
    "illumos": "illumos openindiana omnios smartos tribblix nexenta nexentastor",
    "Minix": "minix",
    "Haiku": "haiku beos",
    "GNU Hurd": "hurd",
    "NetWare": "netware",
    "Plan 9": "plan9 9front",
    "ReactOS": "reactos",
    "QNX": "qnx",
    "Redox": "redox",
    "KolibriOS": "kolibri kolibrios menuetos",
    "OS/2": "os2 ecomstation arcaos",
    "OpenVMS": "openvms",
    "VMware ESXi": "esxi",
}
_NAMES = {word.lower(): name for name, words in _WORDS.items() for word in words.split()}
#: a word and the version that is written onto it: win10, win2k19, freebsd13, macosx10
_WORD = re.compile(r"[a-z][a-z]*|9front")
#: elements of metadata that tell the system, and where in them it stands
_ELEMENTS = ("os", "os-id", "os_id", "osid", "os-variant", "os_variant", "os-type", "os_type", "ostype", "media-id")
_TEMPLATE = "vmtemplate"
#: characters of one note that are read: an id is short
_LONGEST = 300


def named(text: str) -> str | None:
    """The system that is no Linux and that *text* (an id, a short name) stands for, or None."""
    for part in re.split(r"[^a-z0-9]+", text[:_LONGEST].lower()):
        found = _NAMES.get(part)
        if found is None and (match := _WORD.match(part)) and part[match.end() : match.end() + 1].isdecimal():
            found = _NAMES.get(match[0])
        if found is None and part.rstrip(string.digits).endswith("bsd"):
            found = "a BSD"
        if found is not None:
            return found
    return None


def words(system: str) -> str:
    """What every row says of a guest with such a *system*."""
    return f"it is {system}, which reclaim neither looks into nor changes"


def told_in(metadata: etree._Element | None) -> str | None:
    """The system that is no Linux and that *metadata* names, or None."""
    for note in _notes(metadata) if metadata is not None else ():
        if found := named(note):
            return found
    return None


def _notes(metadata: etree._Element) -> Iterator[str]:
    for element in metadata.iter():
        if not isinstance(element.tag, str):
            continue
        name = etree.QName(element).localname.lower()
        if name == _TEMPLATE:
            yield str(element.get("os") or element.get("name") or "")
        elif name in _ELEMENTS:
            yield str(element.get("id") or element.text or "")
