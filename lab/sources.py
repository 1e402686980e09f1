"""Where Debian's packages come from: wherever this machine's own apt gets them."""

from __future__ import annotations

import re
from pathlib import Path

from lab import tools

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Named in each line: without that mmdebstrap needs GnuPG to find which keys are right."""


#: apt's own names, from apt.conf(5) and apt-transport-http(1)
_OPTIONS = re.compile(
    r"Acquire::("
    r"https?::(Proxy|Timeout|Verify-Peer|Verify-Host)|Retries|Check-Valid-Until|Check-Date|Max-FutureTime|ForceIPv[46]"
    r')(::[^ ]+)? "',
    re.IGNORECASE,
)


def apt_options() -> str:
    """Return this machine's options of apt about the way to the archive, as lines of apt.conf(5). Raises LabError."""
    lines = apt_lines(tools.call(["apt-config", "dump"], seconds=60))
    return "".join(f"{line}\n" for line in lines)


def apt_lines(dump: str) -> list[str]:
    """Return the lines of `apt-config dump` about the way to the archive."""
    return [line for line in dump.splitlines() if _OPTIONS.match(line)]


def debian_sources(suite: str) -> list[str]:
    """Return apt source lines for `suite`, or none: then mmdebstrap's own default is right.

    Another Debian's sources are used with the name of the suite changed; another distribution's are not.
    Raises LabError where apt cannot be asked.
    """
    fields = "$(ORIGIN)|$(COMPONENT)|$(CODENAME)|$(RELEASE)|$(REPO_URI)"
    printed = tools.call(
        ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"],
        seconds=60,
    )
    offered = [line.split("|") for line in printed.splitlines()]
    debian = [
        tuple(rest)
        for origin, part, *rest in offered
        if origin == "Debian" and part == "main"
    ]
    ours = {
        (release, uri)
        for code, release, uri in debian
        if code in (suite, f"{suite}-updates", f"{suite}-security")
    }
    if not any(code == suite for code, _, _ in debian):
        ours = {
            (suite, uri)
            for code, release, uri in debian
            if code == release and "-" not in code
        }
    return [
        f"deb [signed-by={KEYRING}] {uri} {release} main"
        for release, uri in sorted(ours)
    ]
