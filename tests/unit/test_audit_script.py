"""`make audit`: which guests it looks at, what it prints first and last, and how it ends.

The script runs in a folder with links to the checkout, and with a /run/libvirt of its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import ROOT, own_settings, ran
from tests.support import executable

_LINKED = ("checks", "fixers", "reclaim", "lab", "conftest.py", "pyproject.toml", "Makefile")
_DAEMONS = [path for name in ("libvirtd", "virtqemud") if (path := shutil.which(name, path="/usr/sbin:/usr/bin"))]
NO_NAMESPACE = os.geteuid() != 0 or bool(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
)
#: a socket that takes connections and never answers, as a daemon that hangs
_SILENT = "import socket,sys,time; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(9); time.sleep(999)"

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Said:
    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.stdout.splitlines() if line.strip()]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A checkout whose set-up has nothing to do, to which every user may go."""
    made = tmp_path / "checkout"
    (made / "scripts").mkdir(parents=True)
    (made / ".venv/bin").mkdir(parents=True)
    for name in _LINKED:
        (made / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "scripts/audit.sh", made / "scripts/audit.sh")
    executable(made / "scripts/setup.sh", "#!/bin/sh\n")
    # a link would be taken for the python of another venv
    python = made / ".venv/bin/python"
    executable(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    return made


def _run(home: Path, *command: str, **env: str) -> Said:
    kept = own_settings(*(key for key in os.environ if key.startswith("MAKE")))
    done = ran(*command, stand=home, env={**kept, "COLUMNS": "160", **env})
    return Said(done.returncode, done.stdout, done.stderr)


def _elsewhere(home: Path, command: str, *, daemons: bool = True, socket: str = "", **env: str) -> Said:
    """Run *command* with an empty /run/libvirt, without *daemons* if asked, and with the *socket* of that mode."""
    if NO_NAMESPACE:
        pytest.skip("there are no mount namespaces here")
    before = ["set -e", "mount -t tmpfs -o mode=0755 tmpfs /run/libvirt"]
    if not daemons:
        # a file that is not executable is no program
        before += [f"mount --bind /etc/passwd {daemon}" for daemon in _DAEMONS]
    after = ""
    if socket:
        path = "/run/libvirt/libvirt-sock"
        before.append(f"{sys.executable} -c '{_SILENT}' {path} & silent=$!")
        before.append(f"until [ -S {path} ]; do sleep 0.05; done; chmod {socket} {path}")
        after = "kill $silent; "
    script = "; ".join(before).replace("&;", "&") + f"; set +e; {command}; status=$?; {after}exit $status"
    Path("/run/libvirt").mkdir(exist_ok=True)
    return _run(home, "unshare", "--mount", "--propagation", "private", "bash", "-c", script, **env)


def _reports(home: Path) -> str:
    return f"--reports {home.parent / 'reports'}"


# Which guests


def test_without_any_libvirt_there_are_samples_that_are_called_so(home: Path) -> None:
    said = _elsewhere(home, f"scripts/audit.sh --definitions-only {_reports(home)}", daemons=False)
    assert said.status == 1
    assert "no libvirt is installed on this machine" in said.lines[0]
    assert "SAMPLE" in said.lines[0]
    assert any(line.startswith("SAMPLES: 6 of 8 guests do not pass") for line in said.lines)
    assert "SAMPLE DEFINITIONS" in said.lines[-2]
    assert said.lines[-1].strip("= ").startswith("NOT OK (SAMPLES): 18 noncompliant")


@pytest.mark.skipif(not _DAEMONS, reason="no libvirt is installed")
def test_a_libvirt_that_does_not_run_is_an_error(home: Path) -> None:
    said = _elsewhere(home, "scripts/audit.sh")
    assert (said.status, said.stdout) == (4, "")
    assert said.stderr.startswith(
        "audit: libvirt is installed on this machine, and does not run: systemctl start libvirtd"
    )
    assert "make demo-audit" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_user_outside_the_group_is_told_of_the_group(home: Path) -> None:
    for folder in (home, *home.parents):
        if folder.stat().st_uid == os.geteuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o055)
    nobody = pwd.getpwnam("nobody")
    as_nobody = f"setpriv --reuid {nobody.pw_uid} --regid {nobody.pw_gid} --clear-groups"
    if _elsewhere(home, f"{as_nobody} .venv/bin/python -c 'import libvirt'").status:
        pytest.skip("nobody cannot go to the checkout")
    said = _elsewhere(home, f"{as_nobody} scripts/audit.sh --fix", socket="0770")
    assert (said.status, said.stdout) == (4, ""), said.stderr
    assert "become a member of the group libvirt (as root: usermod -aG libvirt nobody;" in said.stderr
    assert "or run this as root" in said.stderr
    assert "Permission denied" in said.stderr
    assert "no guest was looked at" in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_a_libvirtd_that_does_not_answer_is_an_error(home: Path) -> None:
    said = _elsewhere(home, "scripts/audit.sh", socket="0777", RECLAIM_LIBVIRT_SECONDS="2")
    assert (said.status, said.stdout) == (4, "")
    assert "no answer in 2 s" in said.stderr
    assert "systemctl status libvirtd" in said.stderr


@pytest.mark.parametrize("way", ["--uri", "--uri=", "env"])
def test_a_hypervisor_that_is_named_is_the_one(home: Path, way: str) -> None:
    fleet = f"test://{ROOT}/lab/samples/fleet.xml"
    env = {"LIBVIRT_DEFAULT_URI": fleet} if way == "env" else {}
    options = {"--uri": ["--uri", fleet], "--uri=": [f"--uri={fleet}"], "env": []}[way]
    said = _run(home, "scripts/audit.sh", *options, "-qq", "--reports", str(home.parent / "reports"), **env)
    assert said.status == 1
    [sentence] = said.lines
    assert sentence.startswith("SAMPLES: 5 of 8 guests do not return freed space; 3 were only partly checked")


# The first line


@pytest.mark.parametrize(
    ("options", "mode"),
    [
        ("", "audit"),
        ("--plan", "plan"),
        ("--fix", "fix"),
        ("--fix --restart", "fix --restart"),
        ("--boot-stopped", "audit --boot-stopped"),
        ("--prove", "audit --prove"),
        ("--definitions-only --fix", "fix --definitions-only"),
    ],
)
def test_the_first_line_has_the_mode(home: Path, options: str, mode: str) -> None:
    (home / ".venv/bin/python").write_text("#!/bin/sh\n", encoding="ascii")  # the first line is the script's own
    said = _elsewhere(home, f"scripts/audit.sh {options}", daemons=False)
    assert said.lines[0].startswith(f"{mode}: ")
    assert "nothing is changed" not in said.lines[0]


# make's own words


def _make(home: Path, target: str, arguments: str, *options: str) -> Said:
    return _run(home, "make", *options, target, f"ARGS={_reports(home)} --definitions-only {arguments}")


def test_make_adds_no_word_after_a_finding(home: Path) -> None:
    said = _make(home, "demo-audit", "")
    assert (said.status, said.stderr) == (1, "")
    assert said.lines[-1].strip("= ").startswith("NOT OK (SAMPLES): 18 noncompliant")


def test_make_ends_with_0_if_all_holds_and_1_if_not_all_was_checked(home: Path) -> None:
    good = _make(home, "demo-audit", "--guests web")
    assert (good.status, good.stderr) == (0, "")
    unseen = _make(home, "demo-audit", "--guests vpn-appliance -k machine_type")
    assert (unseen.status, unseen.stderr) == (1, "")
    assert "NOT ALL CHECKED" in unseen.lines[-1]
    wrong = _make(home, "demo-audit", "--fix --plan")
    assert wrong.status == 1
    assert "make" not in wrong.stderr


def test_the_script_has_the_exact_status(home: Path) -> None:
    fleet = f"test://{ROOT}/lab/samples/fleet.xml"
    common = ("scripts/audit.sh", "--uri", fleet, "--reports", str(home.parent / "reports"), "--definitions-only")
    assert _run(home, *common, "--guests", "vpn-appliance", "-k", "machine_type").status == 6
    assert _run(home, *common, "--fix", "--plan").status == 4


def test_make_n_runs_nothing(home: Path) -> None:
    said = _make(home, "demo-audit", "", "-n")
    assert said.status == 0
    assert said.lines[0].startswith("RECLAIM_MAKE=1 scripts/audit.sh --uri")
    assert not (home.parent / "reports").exists()


def test_other_targets_are_made(home: Path) -> None:
    said = _run(home, "make", "help")
    assert said.status == 0
    assert said.lines[0].startswith("make audit")
