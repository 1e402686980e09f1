"""Systems that are no Linux, recognised by a guest's definition.

Notes in `<metadata>` that are made for this are believed: libosinfo's ids (virt-install, virt-manager, GNOME Boxes,
cockpit), unraid's template. A guest's name, its title or its hardware prove nothing: they are a hint, which counts
only if reclaim has not looked inside and no note names a Linux.
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
    """Return the system that *text* (an id, a short name) stands for if it is no Linux, else None."""
    for part in re.split(r"[^a-z0-9]+", text[:_LONGEST].lower()):
        system = _system_of(part)
        if system is not None:
            return system
    return None


def _system_of(word: str) -> str | None:
    if word in _NAMES:
        return _NAMES[word]
    match = _WORD.match(word)
    if match and word[match.end() : match.end() + 1].isdecimal():
        without_version = match[0]
        if without_version in _NAMES:
            return _NAMES[without_version]
    if word.rstrip(string.digits).endswith("bsd"):
        return "a BSD"
    if _WINDOWS.match(word):
        return "Windows"
    return None


def words(system: str) -> str:
    """Return the reason in every row of a guest with such a *system*."""
    return f"it is {system}, which reclaim neither looks into nor changes"


def told_in(metadata: etree._Element | None) -> str | None:
    """Return the system that *metadata* names if it is no Linux, else None."""
    if metadata is None:
        return None
    for note in _notes(metadata):
        system = named(note)
        if system is not None:
            return system
    return None


def _notes(metadata: etree._Element) -> Iterator[str]:
    for element in metadata.iter("*"):
        name = etree.QName(element).localname.lower()
        if name == _TEMPLATE:
            yield str(element.get("os") or element.get("name", ""))
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
    """Return, in words, a sign in the definition *root* that its system is likely no Linux, or None.

    Sources: `features/hyperv` (libvirt's formatdomain: "improving the behavior of hypervisors running Microsoft
    Windows guests"), QEMU's applesmc device, which macOS alone asks for.
    """
    metadata = root.find("metadata")
    if metadata is not None and any(map(_is_linux, _notes(metadata))):
        return None
    for tag in ("title", "name"):
        text = str(root.findtext(tag) or "")[:_LONGEST]
        system = _named_clearly(text)
        if system is not None:
            return f"its {tag} says {system}"
    if any(map(_is_on, root.iterfind("features/hyperv"))):
        return "it has Hyper-V's features, which are Windows'"
    if any(map(_names_applesmc, root.iter())):
        return f"it has the device {_APPLE}, which is macOS'"
    return None


def _is_on(hyperv: etree._Element) -> bool:
    if hyperv.get("mode") == "passthrough":
        return True
    return any(child.get("state") == "on" for child in hyperv.iterchildren())


def _names_applesmc(element: etree._Element) -> bool:
    return any(_APPLE in str(text) for text in element.attrib.values())


def _named_clearly(text: str) -> str | None:
    """Do as `named`, but pass over words that mean other things too."""
    clear = []
    for word in re.split(r"[^a-z0-9]+", text.lower()):
        if _DIGITS.sub("", word) not in _AMBIGUOUS:
            clear.append(word)
    return named(" ".join(clear))


def _is_linux(note: str) -> bool:
    """True if the note names a system that is a Linux. libosinfo writes `unknown` for systems that it does not know."""
    if not note.strip() or note.rstrip("/").endswith("unknown"):
        return False
    return named(note) is None
