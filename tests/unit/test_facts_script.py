"""facts.sh, run for real by this machine's /bin/sh, and what is read from it."""

from __future__ import annotations

import base64
import os
import platform
import subprocess
from pathlib import Path

import pytest
import testinfra

from reclaim.errors import ProbeError
from reclaim.facts import Facts, gather, read, script

SECTIONS = {
    "os",
    "kernel",
    "boot_id",
    "cmdline",
    "fstab",
    "swaps",
    "boot_files",
    "lsblk",
    "findmnt",
    "links",
    "sysfs",
    "kernels",
    "debconf",
    "addresses",
    "timer",
    "service",
    "failed",
    "cron",
    "tools",
}


@pytest.fixture(scope="module")
def printed() -> bytes:
    done = subprocess.run(["/bin/sh", "-c", script()], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.fixture(scope="module")
def facts(printed: bytes) -> Facts:
    return read(printed, "here")


def test_every_section_is_one_line_of_base64_that_ends_in_a_status(printed: bytes) -> None:
    *lines, last = printed.decode("ascii").splitlines()
    assert last == "end"
    found = dict(line.split(" ", 1) for line in lines)
    assert set(found) == SECTIONS
    for name, data in found.items():
        raw = base64.b64decode(data, validate=True)
        assert raw[-3:].isdigit(), name


def test_the_machine_is_described_as_it_is(facts: Facts) -> None:
    assert facts.running_kernel == platform.release()
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert facts.command_line == Path("/proc/cmdline").read_text().strip()
    assert facts.os["ID"] == platform.freedesktop_os_release()["ID"]


def test_its_disks_and_mounts_are_read(facts: Facts) -> None:
    blocks = {path.name for path in Path("/sys/block").iterdir()}
    assert {device.name for device in facts.block_devices} <= blocks
    mount = next(mount for mount in facts.mounts if mount.target == "/")
    stat = os.statvfs("/")
    assert mount.size == stat.f_blocks * stat.f_frsize


def test_what_this_machine_has_not_costs_only_its_own_section(facts: Facts) -> None:
    for name in ("fstab", "fstrim_timer", "fstrim_service", "kernels", "tools", "cron_fstrim", "links", "sysfs"):
        try:
            getattr(facts, name)
        except ProbeError as exc:
            text = str(exc)
            assert "ended with status" in text, text


def test_the_same_comes_through_a_testinfra_shell(printed: bytes) -> None:
    again = gather(testinfra.get_host("local://"), "here")
    assert set(again.sections) == SECTIONS
    assert again.sections["kernel"] == read(printed, "here").sections["kernel"]


def _run(body: str, folder: Path) -> str:
    """The functions of the script, then *body* in place of its probes."""
    functions = script().partition("\nprobe os ")[0]
    done = subprocess.run(
        ["/bin/sh", "-c", f"{functions}\n{body}"], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize(("status", "command"), [(0, "true"), (1, "false"), (127, "no-such-command"), (42, "exit 42")])
def test_the_status_of_a_command_follows_its_output(tmp_path: Path, status: int, command: str) -> None:
    body = f"it() {{ printf 'a\\nb'; ({command}); }}\nprobe it it"
    name, _, data = _run(body, tmp_path).strip().partition(" ")
    assert (name, base64.b64decode(data)) == ("it", b"a\nb%03d" % status)


def test_a_flood_is_cut_and_then_refused(tmp_path: Path) -> None:
    output = _run("cap=262144\nprobe fstab head -c 400000 /dev/zero", tmp_path)
    facts = read(f"{output}end\n".encode(), "here")
    with pytest.raises(ProbeError, match="longer than reclaim reads"):
        _ = facts.fstab


def test_boot_files_come_with_their_bytes(tmp_path: Path) -> None:
    contents = {"a": b"x\n", "b c": b"\xff\x00no newline", "d": b""}
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    output = _run("probe boot_files files a 'b c' d missing", tmp_path)
    facts = read(f"{output}end\n".encode(), "here")
    assert {path: text.encode("utf-8", errors="surrogateescape") for path, text in facts.boot_files.items()} == contents


def test_install_devices_are_found_among_other_questions(tmp_path: Path) -> None:
    database = tmp_path / "config.dat"
    database.write_text(
        "Name: grub-pc/install_devices_disks_changed\nTemplate: x\nValue: /dev/no\n\n"
        "Name: grub-pc/install_devices\nTemplate: grub-pc/install_devices\nValue: /dev/sda, /dev/sdb\nOwners: grub-pc\n"
        "\nName: grub-pc/timeout\nValue: 5\n",
        encoding="utf-8",
    )
    functions = script().partition("\nprobe os ")[0].replace("/var/cache/debconf/config.dat", str(database))
    done = subprocess.run(["/bin/sh", "-c", f"{functions}\nprobe debconf debconf"], capture_output=True, check=True)
    assert read(done.stdout + b"end\n", "here").grub_install_devices == ("/dev/sda", "/dev/sdb")


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run(["/bin/sh", "-c", script()], cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert list(tmp_path.iterdir()) == []
