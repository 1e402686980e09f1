"""Where Debian's packages come from: wherever this machine's own apt gets them."""

from __future__ import annotations

from pathlib import Path

from lab import tools

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Named in each line: without that mmdebstrap needs GnuPG to find which keys are right."""


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
