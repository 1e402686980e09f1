"""qemu:///session: a libvirtd of a user without rights, with its definitions and images in the user's home.

Nothing of it lies where the system's libvirtd has its files, and much of the host is closed to the user.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.command import ROOT, document_of, runs
from tests.corpus.variants import disk, domain
from tests.support import uuid_of

pytestmark = pytest.mark.guest

URI = "qemu:///session"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
#: a guest without a system: it answers nothing and shuts down at no request
INVENTORY = """\
[policy]
boot_seconds = 3
shutdown_seconds = 3
pull_plug = true
[[backup]]
path = "{closed}/copies"
job = "{closed}/job"
"""
_SECONDS = 300
_TOOLS = ("useradd", "userdel", "pkill", "setpriv", "libvirtd", "virsh", "qemu-img")

Rows = dict[str, dict[str, Any]]


@dataclass
class User:
    """A user of this machine, made for one test."""

    name: str
    home: Path
    runs: list[str] = field(default_factory=list)

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run *argv* as the user, in the checkout, as a log-in without systemd would."""
        become = ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", "--", "env", "-i"]
        settings = [f"HOME={self.home}", f"USER={self.name}", f"PATH={os.environ['PATH']}", "LANG=C.UTF-8"]
        settings += ["PYTHONDONTWRITEBYTECODE=1", "COLUMNS=160"]
        return subprocess.run(
            [*become, *settings, *argv], cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
        )

    def rows(self, *options: str) -> Rows:
        """Run reclaim, and return its rows by requirement; of disks there is one."""
        reports = self.home / f"reports-{len(self.runs)}"
        self.runs.append(str(reports))
        given = ("--uri", URI, "--reports", str(reports), "--inventory", str(self.home / "inventory.toml"))
        done = self.run(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *given, *options, "checks/")
        assert done.returncode in (0, 1, 6), done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        [folder] = runs(reports)
        return {row["requirement"]: row for row in document_of(folder)["results"]}

    @property
    def definition(self) -> str:
        return (self.home / ".config/libvirt/qemu/one.xml").read_text(encoding="utf-8")

    def end(self) -> None:
        """End the user's libvirtd, which the library started, and all else: userdel(8) keeps a user with processes."""
        for sent in ("TERM", "KILL"):
            deadline = time.monotonic() + _SECONDS
            # it fails once no process is left
            while subprocess.run(["pkill", f"-{sent}", "-u", self.name], check=False).returncode == 0:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)


def _skip(reason: str) -> None:
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no session of another user here: {reason}")


@pytest.fixture
def user() -> Iterator[User]:
    """A user with a guest that is off, an image of its own, and a backup that is closed to the user."""
    if os.geteuid() != 0:
        _skip("not root")
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        _skip(f"{', '.join(missing)} is missing")
    # libvirt puts sockets deep below it, and a longer path is none (unix(7))
    home = Path(tempfile.mkdtemp(prefix="reclaim-", dir="/tmp"))
    one = User(f"reclaim-{secrets.token_hex(4)}", home)
    made = subprocess.run(
        ["useradd", "--no-create-home", "--home-dir", str(home), one.name], capture_output=True, text=True, check=False
    )
    try:
        if made.returncode != 0:
            _skip(made.stderr.strip())
        _furnish(one)
        yield one
    finally:
        if made.returncode == 0:
            one.end()
            subprocess.run(["userdel", one.name], check=True)
        shutil.rmtree(home, ignore_errors=True)


def _furnish(user: User) -> None:
    image, closed = user.home / "one.qcow2", user.home / "closed"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "64M"], check=True)
    device = disk("vda", "virtio", source=f"<source file='{image}'/>")
    named = f"<name>one</name><uuid>{uuid_of('one')}</uuid>"
    xml = domain(device, CHANNEL).replace("<name>x</name>", named).replace("262144", "65536")
    (user.home / "one.xml").write_text(xml, encoding="utf-8")
    (user.home / "inventory.toml").write_text(INVENTORY.format(closed=closed), encoding="utf-8")
    for place in (user.home, *user.home.iterdir()):
        shutil.chown(place, user.name, user.name)
    closed.mkdir(mode=0o700)
    (closed / "copies").mkdir()
    (closed / "job").write_text("#!/bin/sh\ncp /images/a /b\n", encoding="ascii")
    seen = user.run(sys.executable, "-c", "import reclaim, libvirt")
    if seen.returncode != 0:
        pytest.skip(f"another user cannot run what is in {ROOT}: {seen.stderr.strip().splitlines()[-1]}")
    defined = user.run("virsh", "-c", URI, "define", str(user.home / "one.xml"))
    if defined.returncode != 0:
        _skip(f"its libvirtd: {defined.stderr.strip()}")


def test_a_session_is_judged_mended_and_undone(user: User) -> None:
    rows = user.rows()
    assert rows["disk-discard"]["verdict"] == "noncompliant"
    assert rows["fstab-uuid"]["reason"] == "it is off"
    before = user.definition

    fixed = user.rows("--fix")
    assert fixed["disk-discard"]["verdict"] == "fixed"
    assert "discard='unmap'" in user.definition
    again = user.rows("--fix")
    assert not [row for row in again.values() if row["changes"]]

    [run] = runs(Path(user.runs[1]))
    undone = user.run(sys.executable, "-m", "reclaim", "undo", str(run))
    assert undone.returncode == 0, undone.stdout + undone.stderr
    # libvirt may list the controllers in another order
    assert sorted(user.definition.splitlines()) == sorted(before.splitlines())


def test_a_guest_of_a_session_is_started_for_a_look_and_shut_down_again(user: User) -> None:
    rows = user.rows("--boot-stopped")
    access = rows["guest-access"]
    assert access["verdict"] not in ("compliant", "fixed"), "there is no agent inside"
    assert "--boot-stopped does not start it" not in access["reason"]
    assert "it was off: it was started (--boot-stopped)" in access["reason"]
    assert user.run("virsh", "-c", URI, "list", "--state-running", "--name").stdout.strip() == ""


def test_a_backup_that_is_closed_to_the_user_is_no_pass_and_no_finding(user: User) -> None:
    rows = user.rows()
    for slug in ("backup-job", "sparse-backup"):
        assert rows[slug]["verdict"] in ("error", "not-assessable"), rows[slug]
        assert "ermission denied" in rows[slug]["reason"]
