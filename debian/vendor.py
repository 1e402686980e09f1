"""Put beside reclaim the Python packages that it needs and that this suite of Debian does not have, or has too old.

    vendor.py FOLDER SUBSTVARS

FOLDER has reclaim and its .dist-info. The packages of the suite that are new enough become `reclaim:Depends` in the
file SUBSTVARS. The others are installed into FOLDER from wheels: those in $RECLAIM_WHEELS, else those that pip fetches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_SUITE = "/usr/lib/python3/dist-packages"
#: libraries that may be the suite's, which gets security updates for them. pytest and its plugins are always vendored:
#: no other program's version of one may come between
_PACKAGES = {
    "jinja2": "python3-jinja2",
    "lxml": "python3-lxml",
    "prometheus-client": "python3-prometheus-client",
    "pydantic": "python3-pydantic",
    "pyyaml": "python3-yaml",
    "wcwidth": "python3-wcwidth",
}


def main(folder: Path, substvars: Path) -> None:
    """Vendor what reclaim in *folder* needs, and write the rest into *substvars*."""
    depends = _of_this_python()
    waiting = list(_required("reclaim", folder))
    while waiting:
        lacking: list[Requirement] = []
        for requirement in waiting:
            present = _version(requirement, folder)
            if present is not None:
                _expect(requirement, present)
            elif _is_in_suite(requirement):
                depends.update(_relations(requirement))
            else:
                lacking.append(requirement)
        _install(lacking, folder)
        waiting = [
            further
            for requirement in lacking
            for further in (requirement, *_required(requirement.name, folder))
        ]
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for origin in folder.glob("*.dist-info/direct_url.json"):
        origin.unlink()  # the path of a wheel on the machine of the build
    with substvars.open("a", encoding="ascii") as file:
        file.write(f"reclaim:Depends={', '.join(sorted(depends))}\n")


def _of_this_python() -> set[str]:
    """Return the relations to the Python that the wheels' shared objects are for."""
    major, minor = sys.version_info[:2]
    return {f"python3 (>= {major}.{minor}~)", f"python3 (<< {major}.{minor + 1}~)"}


def _required(name: str, folder: Path) -> Iterator[Requirement]:
    """Yield the requirements of the package *name* in *folder* that hold for this Python."""
    (found,) = metadata.distributions(name=name, path=[str(folder)])
    for text in found.requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def _version(requirement: Requirement, folder: Path | str) -> str | None:
    """Return the version of the package in *folder*, or None if it is not there."""
    for distribution in metadata.distributions(
        name=requirement.name, path=[str(folder)]
    ):
        return distribution.version
    return None


def _is_in_suite(requirement: Requirement) -> bool:
    version = _version(requirement, _SUITE)
    known = canonicalize_name(requirement.name) in _PACKAGES
    return known and version is not None and requirement.specifier.contains(version)


def _relations(requirement: Requirement) -> Iterator[str]:
    """Yield the package of the suite, with the oldest version that will do."""
    package = _PACKAGES[canonicalize_name(requirement.name)]
    oldest = [each.version for each in requirement.specifier if each.operator == ">="]
    yield from (f"{package} (>= {version}~)" for version in oldest)
    if not oldest:
        yield package


def _expect(requirement: Requirement, version: str) -> None:
    if not requirement.specifier.contains(version):
        sys.exit(f"vendor.py: {requirement} is required, and {version} was taken")


def _install(requirements: list[Requirement], folder: Path) -> None:
    """Install the newest wheels that meet *requirements*, without what these require."""
    if not requirements:
        return
    wheels = os.environ.get("RECLAIM_WHEELS")
    source = ["--no-index", "--find-links", wheels] if wheels else []
    wanted = sorted({f"{each.name}{each.specifier}" for each in requirements})
    pip = [sys.executable, "-I", "-m", "pip", "install", "--quiet", "--no-input"]
    how = ["--disable-pip-version-check", "--no-cache-dir", "--root-user-action=ignore"]
    bare = ["--no-deps", "--no-compile", "--only-binary", ":all:", "--upgrade"]
    into = ["--target", str(folder), *source, *wanted]
    if subprocess.run([*pip, *how, *bare, *into], check=False).returncode:
        sys.exit(
            f"vendor.py: there is no wheel of each of {', '.join(wanted)} for this Python: put them into a folder "
            "(make wheels), and name the folder in RECLAIM_WHEELS"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
