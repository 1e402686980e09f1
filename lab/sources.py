"""Where Debian's packages come from: wherever this machine's own apt gets them."""

from __future__ import annotations

from lab import tools


def debian_sources(suite: str) -> list[str]:
    """Return apt source lines for `suite`, or none: then mmdebstrap's own default is right.

    Another Debian's sources are used with the name of the suite changed; another distribution's are not.
    Raises LabError where apt cannot be asked.
    """
    fields = "$(ORIGIN)|$(CODENAME)|$(RELEASE)|$(COMPONENT)|$(REPO_URI)"
    printed = tools.call(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], seconds=60)
    offered = [line.split("|") for line in printed.splitlines()]
    debian = [(code, release, uri) for origin, code, release, part, uri in offered if origin == "Debian" and part == "main"]
    ours = {(release, uri) for code, release, uri in debian if code in (suite, f"{suite}-updates", f"{suite}-security")}
    if not any(release in (suite, f"{suite}-updates") for release, _ in ours) and debian:
        ours = {(suite, uri) for _, release, uri in debian if "-" not in release and "/" not in release}
    return [f"deb {uri} {release} main" for release, uri in sorted(ours)]
