"""One real guest looked into: reclaim beside Ansible, testinfra and the bare commands."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from bench.guests import ByHand, guest, reclaim
from bench.guests import run as in_guest
from bench.page import ROOT, Aim, Asked, Results, Topic
from bench.peers import venv
from bench.rounds import Contender, Failed, Race, Taken, race, ran
from lab.guest import LabGuest
from reclaim.inside import facts

PEERS = ROOT / "bench/peers"
NAME = "reclaim-lab-bench-audit"
FLOOR = "the bare commands, in one guest-exec"
SCRIPT = "reclaim's script, in one guest-exec"
OURS = "reclaim by the agent, the first time"
AGAIN = "reclaim by the agent, again"
SSH = "reclaim by ssh, the first time"
PLAIN = "testinfra by ssh"
KEPT = "testinfra by ssh, with ControlPersist"
ANSIBLE = "Ansible by ssh"
PIPED = "Ansible by ssh, with pipelining"
BY_AGENT = "Ansible by the agent (community.libvirt)"
#: seconds that a start of Python and a report may take beside the guest's own
START = 0.6

ABOUT = """\
One Debian 12 with an agent, sshd and Python is looked into: its fstab and boot loader, block devices and mounts, each \
initramfs, the timer, and every file that names a device. `bench/peers/floor.sh` has the commands that reclaim's \
script is made of, typed for this one guest: nobody can be faster who reads as much. The playbook and the testinfra \
suite beside it read the same, as their documentation writes them; neither judges, and neither has a report. reclaim \
judges, writes its report, and is a whole process. *The first time* it knows nothing of the guest; *again* it \
remembers the content of each initramfs. Connections are closed before each sample. Ansible keeps its own connection \
while it runs, as is its default; it needs Python in the guest."""


def measure(asked: Asked) -> Results:
    with tempfile.TemporaryDirectory(prefix="rb-") as name, guest(NAME) as made:
        by_hand = ByHand(made, Path(name))
        by_hand.write()
        rounds = asked.rounds_or(1 if asked.quick else 3)
        measured = race(
            "One real guest", _contenders(made, by_hand), rounds, baseline=FLOOR
        )
    return Results((measured,), _aims(measured), versions=_versions())


def _contenders(made: LabGuest, by_hand: ByHand) -> list[Contender]:
    folder = by_hand.folder
    fresh, known = folder / "fresh", folder / "known"
    reclaim(made, known)  # it remembers from now on, and its bytecode is written
    floor = f"{(PEERS / 'floor.sh').read_text(encoding='ascii')}\ntrue\n"
    without = venv.why_absent()

    def forget() -> None:
        shutil.rmtree(fresh, ignore_errors=True)
        by_hand.hang_up()

    def bare(script: str, last: str) -> Taken:
        if last not in in_guest(made, script):
            raise Failed(f"the guest did not print {last!r}")
        return Taken()

    def audited(reports: Path, *options: str) -> Taken:
        taken = reclaim(made, reports, *options)
        _expect_looked(reports)
        return taken

    def suite(config: Path) -> Taken:
        options = ("--hosts", "ssh://guest", "--ssh-config", config, "--sudo")
        command = (
            venv.program("python"),
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
        )
        return ran(*command, "-c", "/dev/null", PEERS / "suite", *options, cwd=folder)

    def played(inventory: Path, **more: str) -> Taken:
        environment = {
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(folder),
            "ANSIBLE_LOCALHOST_WARNING": "False",
            "ANSIBLE_HOME": str(folder / "ansible"),
            **more,
        }
        command = (
            venv.program("ansible-playbook"),
            "-i",
            inventory,
            PEERS / "playbook.yml",
        )
        return ran(*command, cwd=folder, env=environment)

    return [
        Contender(FLOOR, lambda: bare(floor, "fstrim")),
        Contender(
            SCRIPT,
            lambda: bare(f"mark=bench-section\n{facts.script()}", "bench-section end"),
        ),
        Contender(OURS, lambda: audited(fresh), forget),
        Contender(AGAIN, lambda: audited(known), forget),
        Contender(
            SSH, lambda: audited(fresh, "--inventory", str(by_hand.ours)), forget
        ),
        Contender(PLAIN, lambda: suite(by_hand.config), forget, without),
        Contender(KEPT, lambda: suite(by_hand.kept_config), forget, without),
        Contender(ANSIBLE, lambda: played(by_hand.by_ssh), forget, without),
        Contender(
            PIPED,
            lambda: played(by_hand.by_ssh, ANSIBLE_PIPELINING="True"),
            forget,
            without,
        ),
        Contender(BY_AGENT, lambda: played(by_hand.by_agent), forget, without),
    ]


def _expect_looked(reports: Path) -> None:
    """Raise Failed if the last audit below *reports* did not look inside, or an error ended it."""
    (latest,) = reports.glob("*/latest/results.json")
    rows = json.loads(latest.read_text(encoding="utf-8"))["results"]
    verdicts = {row["requirement"]: row["verdict"] for row in rows}
    if "error" in verdicts.values() or verdicts.get("initramfs-driver") != "compliant":
        raise Failed(f"the audit did not look at everything: {verdicts}")


def _aims(measured: Race) -> tuple[Aim, ...]:
    ours, floor = measured.median(OURS), measured.median(FLOOR)
    most = (ours - START) / floor if ours is not None and floor else None
    return (
        Aim(
            f"{OURS}, without {START} s for its start, over the floor",
            most,
            1.3,
            why="The script looks for each distribution's files, and every process costs 15 ms under emulation; "
            "on the host, pytest, libvirt and a report are started too.",
        ),
        Aim(
            f"{AGAIN}, over the floor",
            measured.ratio(AGAIN),
            0.5,
            why="Only listing the initramfs is saved.",
        ),
        Aim(f"{ANSIBLE}, over reclaim", measured.ratio(ANSIBLE, OURS), 5, "at least"),
        Aim(
            f"{KEPT}, over reclaim",
            measured.ratio(KEPT, OURS),
            2,
            "at least",
            why="The suite reads one guest of a known kind, and neither judges nor reports.",
        ),
    )


def _versions() -> dict[str, str]:
    packages = {
        "ansible": "Ansible",
        "ansible-core": "ansible-core",
        "pytest-testinfra": "testinfra",
    }
    try:
        return {title: venv.version(package) for package, title in packages.items()}
    except Failed:
        return {}


TOPIC = Topic("audit", "Audit of one real guest", ABOUT, measure)
