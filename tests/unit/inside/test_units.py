"""Mount and swap units that the administrator wrote."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from reclaim.inside.units import escaped


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/dev/vda5", "dev-vda5"),
        ("/dev/disk/by-uuid/aaaa-5", "dev-disk-by\\x2duuid-aaaa\\x2d5"),
        ("/dev/disk/by-label/a+b", "dev-disk-by\\x2dlabel-a\\x2bb"),
        ("/.x", "\\x2ex"),
    ],
)
def test_units_are_called_as_systemd_escape_has_it(path: str, name: str) -> None:
    assert escaped(path) == name
    if tool := shutil.which("systemd-escape"):
        done = subprocess.run([tool, "--path", path], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == name
