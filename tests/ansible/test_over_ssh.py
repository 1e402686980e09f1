"""The playbooks over a real ssh, by users that are not root: with sudo, and without."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.playing import Controller
from tests.sshd import Sshd, listening

pytestmark = [pytest.mark.slow, pytest.mark.sshd]

_SECONDS = 120


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with listening(tmp_path / "sshd", str(uuid.uuid4()).upper()) as one:
        yield one


def _by_ssh(sshd: Sshd, **more: Any) -> dict[str, Any]:
    """Return the variables of a host that is reached by *sshd*."""
    words = f"-o UserKnownHostsFile={sshd.folder / 'known_hosts'} -o StrictHostKeyChecking=accept-new"
    return {
        "ansible_connection": "ssh",
        "ansible_host": "127.0.0.1",
        "ansible_port": sshd.port,
        "ansible_user": "admin",
        "ansible_ssh_private_key_file": str(sshd.folder / "user"),
        "ansible_ssh_common_args": words,
        **more,
    }


def _wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


def _below(pid: int) -> list[int]:
    """Return the processes below *pid*."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [found for child in map(int, children) for found in (child, *_below(child))]


def test_a_user_becomes_root_for_it(controller: Controller, sshd: Sshd) -> None:
    host = controller.host("kvm1", **_by_ssh(sshd, reclaim_become=True))
    host.stands_in()
    played = controller.play("audit", "-v")
    assert (played.status, played.counts("kvm1")) == (0, (0, 0, 0)), played.said
    (fetched,) = controller.fetched.glob("kvm1/*/results.json")
    (made,) = host.folder.glob("reports/*/[0-9]*/results.json")
    assert fetched.read_bytes() == made.read_bytes()
    assert made.stat().st_uid == 0


def test_a_user_does_it_in_his_own_home(controller: Controller, sshd: Sshd, bundles: Path) -> None:
    variables = _by_ssh(sshd, reclaim_python="/usr/bin/python3", ansible_python_interpreter="/usr/bin/python3")
    own = {"reclaim_folder": "", "reclaim_reports": "", "reclaim_uri": "test:///default"}
    controller.host("kvm1", **variables, **own, reclaim_bundles=str(bundles))
    installed = controller.play("install")
    assert (installed.status, installed.counts("kvm1")) == (0, (3, 0, 0)), installed.said
    audited = controller.play("audit", "-v")
    assert (audited.status, audited.counts("kvm1")) == (0, (0, 0, 0)), audited.said
    assert '"run": "/run/admin/.local/state/reclaim/reports/test-driver/' in audited.said
    assert len(list(controller.fetched.glob("kvm1/*/report.html"))) == 1
    assert controller.play("uninstall").counts("kvm1") == (1, 0, 0)


def test_one_that_vanishes_during_its_job_stops_the_rollout(controller: Controller, sshd: Sshd) -> None:
    waits = controller.host("kvm1", **_by_ssh(sshd, reclaim_become=True))
    waits.has(f'#!/bin/sh\necho $$ >"{waits.folder}/pid"\nwhile [ ! -e "{waits.folder}/go" ]; do sleep 0.1; done\n')
    later = controller.host("kvm2")
    later.stands_in()
    rollout = controller.begin("fix")
    try:
        _wait_for((waits.folder / "pid").exists)
        # the listener, and the connections that it serves; the job is no child of them any more
        for pid in [sshd.process.pid, *_below(sshd.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        said, _ = rollout.communicate(timeout=_SECONDS)
    finally:
        (waits.folder / "go").touch()
    assert rollout.returncode == 2
    assert "kvm1: it cannot be reached any more (a job that runs there goes on)" in said
    assert "Never begun: kvm2" in said
    assert later.jobs == []
    _wait_for((waits.jobs[0] / "status.json").exists)
