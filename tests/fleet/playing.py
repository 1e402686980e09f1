"""Ansible's controller as the client of the lab's hosts, with the collection of the checkout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.netns.fleet import Fleet
from tests.ansible.playing import COLLECTION, Played
from tests.command import document_of, runs
from tests.fleet.runs import LIMIT, SOON, Row, Running


@dataclass
class Client:
    """Its inventory has every host of the fleet; `variables` are those of all hosts."""

    fleet: Fleet
    folder: Path
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        above = self.folder / "collections/ansible_collections/reclaim"
        above.mkdir(parents=True)
        (above / "fleet").symlink_to(COLLECTION)

    @property
    def fetched(self) -> Path:
        return self.folder / "reports-of-the-fleet"

    def rows(self, name: str) -> list[Row]:
        """Return the rows of the newest run that was fetched from a host."""
        found: list[Row] = document_of([run for run in runs(self.fetched) if run.parent.name == name][-1])["results"]
        return found

    def play(self, playbook: str, *arguments: str) -> Played:
        """Play *playbook* of the collection; all of it has to end in time."""
        done = self.fleet.site.run(self._words(playbook, *arguments), seconds=2 * LIMIT, env=self._environment())
        return Played(done.returncode, done.stdout + done.stderr)

    @contextmanager
    def playing(self, playbook: str, *arguments: str) -> Iterator[Running]:
        """Play *playbook* beside the test."""
        log = self.folder / "log"
        with log.open("wb") as output:
            words = self._words(playbook, *arguments)
            process = self.fleet.site.start(words, output=output.fileno(), env=self._environment())
        try:
            yield Running(self.fleet, process, log, self.fetched)
        finally:
            if process.poll() is None:
                self.fleet.site.end_all()
                process.wait(SOON)

    def _words(self, playbook: str, *arguments: str) -> list[str]:
        inventory = self.folder / "inventory.yml"
        hosts: dict[str, dict[str, str]] = {host.name: {} for host in self.fleet.hosts}
        fixed = {"ansible_user": "root", "reclaim_become": False, "reclaim_into": str(self.fetched)}
        variables = {**fixed, **self.variables}
        inventory.write_text(yaml.safe_dump({"hypervisors": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
        program = Path(sys.executable).with_name("ansible-playbook")
        return [str(program), "-i", str(inventory), f"reclaim.fleet.{playbook}", *arguments]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_HOME": "/run/home/.ansible",
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONWARNINGS": "ignore",
        }
