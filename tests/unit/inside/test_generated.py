"""Files that a system makes anew from a configuration of its own."""

from __future__ import annotations

import pytest

from reclaim.inside import generated
from tests.support import FILES, Inside


@pytest.mark.parametrize(
    ("os", "fstab", "name"),
    [
        pytest.param("ID=nixos\n", "", "NixOS", id="nixos"),
        pytest.param("ID=guix\n", "", "Guix System", id="guix-by-its-id"),
        pytest.param("ID=debian\n", "# This is a generated file.  Do not edit!\n#\n", "NixOS", id="nixos-by-its-fstab"),
        pytest.param(
            "ID=debian\n",
            "# This file was generated from your Guix configuration.\n",
            "Guix System",
            id="guix-by-fstab",
        ),
        pytest.param("ID=debian\n", "# x\n# This is a generated file.  Do not edit!\n", None, id="not-at-its-begin"),
        pytest.param("ID=debian\n", FILES["/etc/fstab"], None, id="another"),
        pytest.param("", "", None, id="unnamed"),
    ],
)
def test_the_system_that_makes_etc(os: str, fstab: str, name: str | None) -> None:
    facts = Inside(os=os, files={**FILES, "/etc/fstab": fstab}).facts()
    assert generated.system(facts) == name


@pytest.mark.parametrize("tool", ["Ansible", "puppet", "CHEF", "SaltStack", "Salt", "CFEngine"])
def test_a_file_that_a_tool_marks_is_remarked_on(tool: str) -> None:
    [remark] = generated.managed("/etc/fstab", f"UUID=x / ext4\n \t# Managed by {tool}, do not edit \n")
    assert remark.startswith(f'/etc/fstab is marked "Managed by {tool}, do not edit"')


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# nothing\nUUID=x / ext4\n", id="no-mark"),
        pytest.param("ansible managed\n", id="no-comment"),
        pytest.param("# ansibles\n# unpuppeted\n# reSalted\n", id="within-a-word"),
        pytest.param("x" * 1000 + "\n# Ansible\n", id="far-below"),
        pytest.param("", id="empty"),
    ],
)
def test_another_file_is_not_remarked_on(text: str) -> None:
    assert generated.managed("/etc/fstab", text) == []


def test_a_mark_is_looked_for_at_the_begin_and_shown_in_part() -> None:
    assert generated.managed("/etc/fstab", "x" * 980 + "\n# Ansible\n")
    [remark] = generated.managed("/a", "# Ansible " + "x" * 500 + "\n")
    assert "Ansible " + "x" * 92 + '"' in remark


@pytest.mark.parametrize(
    ("name", "target", "device", "words"),
    [
        ("NixOS", "/srv", "/dev/disk/by-uuid/a-1", 'fileSystems."/srv".device = "/dev/disk/by-uuid/a-1"'),
        ("NixOS", "none", "/dev/disk/by-uuid/a-1", 'swapDevices = [ { device = "/dev/disk/by-uuid/a-1"; } ]'),
        ("NixOS", "swap", "/dev/disk/by-label/s", 'swapDevices = [ { device = "/dev/disk/by-label/s"; } ]'),
        ("Guix System", "/srv", "/dev/disk/by-uuid/a-1", '(mount-point "/srv"): (device (uuid "a-1"))'),
        ("Guix System", "/", "/dev/disk/by-label/root", '(mount-point "/"): (device (file-system-label "root"))'),
    ],
)
def test_the_setting_of_a_mount(name: str, target: str, device: str, words: str) -> None:
    assert words in generated.mounted_by(name, target, device)


@pytest.mark.parametrize(
    ("name", "setting", "command"),
    [
        ("NixOS", "boot.kernelParams", "nixos-rebuild boot"),
        ("Guix System", "kernel-arguments", "guix system reconfigure"),
    ],
)
def test_the_settings_of_the_boot_and_the_command_that_builds_it(name: str, setting: str, command: str) -> None:
    assert setting in generated.booted_by(name)
    assert generated.rebuilt_by(name) == command
