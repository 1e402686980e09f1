"""Systems that are no Linux, by what a definition says of its guest.

Notes in `<metadata>` that are made for this are believed: libosinfo's ids (virt-install, virt-manager, GNOME Boxes,
cockpit), unraid's template. A guest's name, its title or its hardware prove nothing: they are a hint, which counts
only if nobody looked inside and no note names a Linux.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

from lxml import etree

#: the systems of osinfo-db whose family is not linux, and their kin: the words that stand for them in an id
_WORDS = {
    "Windows": "win windows winnt winxp winme win2k w2k winvista mswindows winserver",
    "DOS": "dos msdos freedos drdos",
    "macOS": (
        "mac macintosh macos macosx osx darwin hackintosh "
        "highsierra mojave catalina bigsur monterey ventura sonoma sequoia tahoe"
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
    "SCO UNIX": "unixware openserver xenix",
    "AIX": "aix",
    "HP-UX": "hpux",
    "IRIX": "irix",
}
_NAMES = {
    word.lower(): name for name, words in _WORDS.items() for word in words.split()
}
#: a word and the version that is written onto it: win10, win2k19, freebsd13, macosx10
_WORD = re.compile(r"w(?:in)?2k(?=\d)|[a-z]+|9front")
#: whatever follows: windowsserver2019, unraid's windowstpm
_WINDOWS = re.compile(r"(?:ms)?windows|winserver|winsrv")
#: elements of metadata that tell the system, and where in them it stands
_ELEMENTS = (
    "os",
    "os-id",
    "os_id",
    "osid",
    "os-variant",
    "os_variant",
    "os-type",
    "os_type",
    "ostype",
    "media-id",
)
_TEMPLATE = "vmtemplate"
#: characters of one note that are read: an id is short
_LONGEST = 300


def named(text: str) -> str | None:
    """The system that is no Linux and that *text* (an id, a short name) stands for, or None."""
    for part in re.split(r"[^a-z0-9]+", text[:_LONGEST].lower()):
        found = _NAMES.get(part)
        if (
            found is None
            and (match := _WORD.match(part))
            and part[match.end() : match.end() + 1].isdecimal()
        ):
            found = _NAMES.get(match[0])
        if found is None and part.rstrip(string.digits).endswith("bsd"):
            found = "a BSD"
        if found is None and _WINDOWS.match(part):
            found = "Windows"
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


# Hints ----------------------------------------------------------------------------------------

#: words of a name or a title that people give to other things too: a person, a place, a task
_OTHER_THINGS = """
mac darwin mojave catalina ventura sonoma sequoia tahoe monterey dos bsd dragonfly hurd haiku minix redox kolibri os2
openserver aix
"""
_AMBIGUOUS = frozenset(_OTHER_THINGS.split())
_DIGITS = re.compile(r"\d+")
_APPLE = "isa-applesmc"


def hint(root: etree._Element) -> str | None:
    """What in the definition *root* makes it likely that its system is no Linux, in words, or None.

    Sources: `features/hyperv` (libvirt's formatdomain: "improving the behavior of hypervisors running Microsoft
    Windows guests"), QEMU's applesmc device, which macOS alone asks for.
    """
    metadata = root.find("metadata")
    if metadata is not None and any(map(_is_linux, _notes(metadata))):
        return None
    for tag in ("title", "name"):
        text = str(root.findtext(tag) or "")[:_LONGEST]
        if found := _named_clearly(text):
            return f"its {tag} says {found}"
    for one in root.iterfind("features/hyperv"):
        if one.get("mode") == "passthrough" or any(
            child.get("state") == "on" for child in one.iterchildren()
        ):
            return "it has Hyper-V's features, which are Windows'"
    if any(
        _APPLE in text for one in root.iter() for text in map(str, one.attrib.values())
    ):
        return f"it has the device {_APPLE}, which is macOS'"
    return None


def _named_clearly(text: str) -> str | None:
    """As `named`, but for words that mean other things too."""
    kept = [
        one
        for one in re.split(r"[^a-z0-9]+", text.lower())
        if _DIGITS.sub("", one) not in _AMBIGUOUS
    ]
    return named(" ".join(kept))


def _is_linux(note: str) -> bool:
    """Does a note name a system, and one that is a Linux? libosinfo writes `unknown` for what it does not know."""
    return (
        bool(note.strip())
        and not note.rstrip("/").endswith("unknown")
        and named(note) is None
    )
