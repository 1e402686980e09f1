"""A controller of Ansible with a home of its own, and hypervisors that are folders of this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.command import FLEET, own_settings, ran
from tests.support import executable

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "fleet"
_SECONDS = 300
_RECAP = re.compile(r"^(\S+)\s+: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE)
#: it stands in for the installed command
_PROGRAM = """#!/bin/sh
exec {python} -m reclaim "$@"
"""


@dataclass(frozen=True)
class Host:
    """A hypervisor of the inventory, with a folder for all that the collection makes there."""

    name: str
    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "reclaim"

    @property
    def jobs(self) -> list[Path]:
        """Return the folders of its jobs, the newest last."""
        return sorted((self.home / "jobs").glob("*")) if self.home.exists() else []

    def words(self) -> list[list[str]]:
        """Return the words of its jobs."""
        requests = [json.loads((job / "request.json").read_text(encoding="utf-8")) for job in self.jobs]
        return [[request["mode"], *request["words"]] for request in requests]

    def has(self, program: str) -> None:
        """Put the script *program* in the place of the installed command."""
        command = self.home / "current/bin/reclaim"
        command.parent.mkdir(parents=True, exist_ok=True)
        for folder in (self.home, self.home / "current"):
            folder.chmod(0o700)
        executable(command, program)

    def stands_in(self) -> None:
        """Let the checkout's reclaim be the installed command."""
        self.has(_PROGRAM.format(python=sys.executable))


@dataclass(frozen=True)
class Played:
    """The end of one playbook."""

    status: int
    said: str

    def counts(self, host: str) -> tuple[int, int, int]:
        """Return the tasks of *host* that changed something, did not reach it, and failed."""
        for name, *counts in _RECAP.findall(self.said):
            if name == host:
                changed, unreachable, failed = map(int, counts)
                return changed, unreachable, failed
        raise AssertionError(f"{host} is not in the recap:\n{self.said}")

    @property
    def hosts(self) -> list[str]:
        """Return the hosts that a task was run for."""
        return [name for name, *_ in _RECAP.findall(self.said)]


@dataclass
class Controller:
    """Ansible's controller. `hosts` are variables of the inventory's hosts."""

    folder: Path
    #: short, since ssh binds its sockets below it
    home: Path
    variables: dict[str, Any] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        above = self.folder / "collections/ansible_collections/reclaim"
        above.mkdir(parents=True)
        (above / "fleet").symlink_to(COLLECTION)

    def host(self, name: str, **variables: Any) -> Host:
        """Add a host: a folder of this machine, with the sample fleet."""
        host = Host(name, self.folder / "hosts" / name)
        host.folder.mkdir(parents=True)
        self.hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "reclaim_python": sys.executable,
            "reclaim_become": False,
            "reclaim_uri": FLEET,
            "reclaim_folder": str(host.home),
            "reclaim_reports": str(host.folder / "reports"),
            **variables,
        }
        return host

    @property
    def fetched(self) -> Path:
        return self.folder / "reports-of-the-fleet"

    @property
    def environment(self) -> dict[str, str]:
        foreign = [name for name in os.environ if name.startswith("ANSIBLE_")]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            **own_settings(*foreign),
            "PATH": path,
            "PWD": str(self.folder),
            "HOME": str(self.home),
            "ANSIBLE_HOME": str(self.home / ".ansible"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONWARNINGS": "ignore",
        }

    def _inventory(self) -> Path:
        path = self.folder / "inventory.yml"
        group = {"hypervisors": {"hosts": self.hosts, "vars": self.variables}}
        path.write_text(yaml.safe_dump(group), encoding="utf-8")
        return path

    def words(self, playbook: str, *arguments: str) -> list[str]:
        """Return the command that plays *playbook*."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        return [program, "-i", str(self._inventory()), f"reclaim.fleet.{playbook}", *arguments]

    def play(self, playbook: str, *arguments: str, env: Mapping[str, str] | None = None) -> Played:
        """Play *playbook* of the collection."""
        environment = {**self.environment, **(env or {})}
        done = ran(*self.words(playbook, *arguments), stand=self.folder, env=environment, seconds=_SECONDS)
        return Played(done.returncode, done.stdout + done.stderr)

    def begin(self, playbook: str, *arguments: str) -> subprocess.Popen[str]:
        """Begin to play *playbook*, in a session of its own."""
        return subprocess.Popen(
            self.words(playbook, *arguments),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
