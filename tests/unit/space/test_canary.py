"""The script that plants a canary in a guest, run by every shell that is here, in folders of this machine."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import testinfra

from reclaim.space import canary as canaries
from reclaim.space.canary import MIB, Canary, NotPlanted, Trimmed
from tests.support import executable

SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
#: longer than any test takes; what a test leaves holding would be found by `nobody_holds`
HOLD = "60"
#: this machine is not trimmed
FSTRIM = 'fstrim -v "$mount"'
REAL = canaries.script
SAYS = "echo '/: 4 MiB (4194304 bytes) trimmed'"

each_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0])


def script() -> str:
    text = REAL()
    assert text.count(FSTRIM) == 1
    return text.replace(FSTRIM, SAYS)


@pytest.fixture(autouse=True)
def _nothing_is_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canaries, "script", script)


def run(shell: list[str], verb: str, mount: Path, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    command = [*shell, "-c", text or script(), "reclaim", verb, str(mount), "0123abcd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def holders(mount: Path) -> list[int]:
    """Every process that has a deleted file of *mount* open."""
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdecimal() and _holds(one / "fd", mount)]


def _holds(descriptors: Path, mount: Path) -> bool:
    return any(one.startswith(f"{mount}/") and one.endswith(" (deleted)") for one in _targets(descriptors))


def _targets(descriptors: Path) -> Iterator[str]:
    """What is open there; a process, and a descriptor, may be gone at any moment."""
    with suppress(OSError):
        for link in list(descriptors.iterdir()):
            with suppress(OSError):
                yield str(link.readlink())


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "mount point"
    folder.mkdir()
    yield folder
    for process in holders(folder):
        os.kill(process, signal.SIGKILL)


@pytest.mark.slow
@each_shell
def test_a_canary_is_a_deleted_file_that_is_held_until_it_is_dug_out(shell: list[str], mount: Path) -> None:
    planted = run(shell, "plant", mount, "4", HOLD)
    assert planted.returncode == 0, planted.stderr
    word, pid = planted.stdout.split()
    assert word == "planted"
    assert holders(mount) == [int(pid)]
    held = Path(f"/proc/{pid}/fd/3")
    assert held.stat().st_size == 4 * MIB
    assert held.stat().st_blocks * 512 >= 4 * MIB
    assert list(mount.iterdir()) == []

    dug = run(shell, "dig", mount, pid)
    assert dug.returncode == 0, dug.stderr
    assert dug.stdout == "trim 0 /: 4 MiB (4194304 bytes) trimmed\n"
    assert holders(mount) == []
    assert list(mount.iterdir()) == []


@pytest.mark.slow
@each_shell
def test_two_canaries_are_not_alike_and_cannot_be_compressed(shell: list[str], mount: Path) -> None:
    pid = run(shell, "plant", mount, "1", HOLD).stdout.split()[1]
    data = Path(f"/proc/{pid}/fd/3").read_bytes()
    assert len({data[at : at + 4096] for at in range(0, len(data), 4096)}) == 256
    assert run(shell, "sweep", mount).returncode == 0
    wait(lambda: not holders(mount))


@pytest.mark.slow
@each_shell
def test_a_canary_that_nobody_comes_for_goes_by_itself(shell: list[str], mount: Path) -> None:
    pid = run(shell, "plant", mount, "1", "1").stdout.split()[1]
    wait(lambda: not holders(mount))
    dug = run(shell, "dig", mount, pid)
    assert dug.returncode != 0
    assert "gone before its time" in dug.stderr


@each_shell
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_the_script_nothing_is_left(shell: list[str], mount: Path, how: signal.Signals) -> None:
    limited = f"ulimit -f 4194304; {script()}"  # it would fill the disk if nobody ended it
    command = [*shell, "-c", limited, "reclaim", "plant", str(mount), "0123abcd", "100000", HOLD]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0) as process:
        # deleted, and its folder too: what comes before takes no room, and nothing can tidy up after a SIGKILL
        wait(lambda: holders(mount) and not list(mount.iterdir()))
        os.killpg(process.pid, how)
        process.wait(60)
    wait(lambda: not holders(mount))
    assert list(mount.iterdir()) == []


@pytest.mark.slow
@each_shell
def test_sweep_ends_what_starts_while_it_sweeps(shell: list[str], mount: Path) -> None:
    """A shell that is told to end may just be starting the program that writes."""
    token = mount / "0123abcd"
    holds = f"exec 3>{shlex.quote(str(token))}; rm {shlex.quote(str(token))}; trap 'sleep 60 & exit' TERM"
    begin = f"{holds}; while :; do sleep 0.1; done"
    with subprocess.Popen(["sh", "-c", begin], stdout=subprocess.DEVNULL) as process:
        wait(lambda: holders(mount))
        assert run(shell, "sweep", mount).returncode == 0
        process.wait(30)
    assert holders(mount) == []


@each_shell
def test_where_there_is_no_room_the_guest_says_so_and_nothing_is_left(shell: list[str], mount: Path) -> None:
    limited = f"trap '' XFSZ; ulimit -f 64; {script()}"
    planted = run(shell, "plant", mount, "4", HOLD, text=limited)
    assert planted.returncode != 0
    assert planted.stderr
    assert holders(mount) == []
    assert list(mount.iterdir()) == []


def _with_a_rogue(tmp_path: Path, swap: str) -> str:
    """The script with a mktemp after which somebody does *swap* to the folder that it made."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    rogue = bin_folder / "mktemp"
    executable(rogue, f'#!/bin/sh\nmade=$(/usr/bin/mktemp "$@") || exit 1\n{swap}\nprintf "%s\\n" "$made"\n')
    return script().replace("PATH=", f"PATH={shlex.quote(str(bin_folder))}:", 1)


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell[0] != "busybox"], ids=lambda shell: shell[0])
@pytest.mark.parametrize(
    "victim_has", [pytest.param("open", id="another mode"), pytest.param("something in it", id="not empty")]
)
def test_a_link_in_the_place_of_its_folder_is_not_followed(
    shell: list[str], mount: Path, tmp_path: Path, victim_has: str
) -> None:
    """Who may write in the mount point may rename what root makes there, and put a link in its place."""
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755 if victim_has == "open" else 0o700)
    if victim_has != "open":
        (victim / "precious").write_text("kept", encoding="ascii")
    before = sorted(path.name for path in victim.iterdir())
    text = _with_a_rogue(tmp_path, f'rmdir "$made"; ln -s {shlex.quote(str(victim))} "$made"')
    planted = run(shell, "plant", mount, "1", HOLD, text=text)
    assert planted.returncode != 0
    assert "another folder has taken its place" in planted.stderr
    assert sorted(path.name for path in victim.iterdir()) == before
    assert holders(victim) == []


def test_through_a_shell_it_is_planted_and_dug_out(mount: Path) -> None:
    canary = Canary(testinfra.get_host("local://"), "one", str(mount))
    trimmed, free = canary.prepare()
    assert trimmed.claimed == 4 * MIB
    assert abs(free - shutil.disk_usage(mount).free) < 1024**3
    canary.plant(2)
    assert len(holders(mount)) == 1
    assert canary.dig().claimed == 4 * MIB
    canary.sweep()
    assert holders(mount) == []


@pytest.mark.slow
def test_what_was_planted_and_not_dug_out_is_swept(mount: Path) -> None:
    canary = Canary(testinfra.get_host("local://"), "one", str(mount))
    canary.plant(1)
    canary.sweep()
    wait(lambda: not holders(mount))
    with pytest.raises(NotPlanted, match="gone before its time"):
        canary.dig()


def test_a_mount_point_that_is_not_there(tmp_path: Path) -> None:
    canary = Canary(testinfra.get_host("local://"), "one", str(tmp_path / "none"))
    with pytest.raises(NotPlanted, match="none"):
        canary.plant(1)


@pytest.mark.parametrize(
    ("status", "words", "claimed"),
    [
        pytest.param(0, "/: 3.5 GiB (3758096384 bytes) trimmed", 3758096384, id="util-linux"),
        pytest.param(0, "/: 0 B (0 bytes) trimmed", 0, id="nothing"),
        pytest.param(0, "/mnt: 123904 bytes trimmed", 123904, id="busybox"),
        pytest.param(1, "/: 5 bytes trimmed", None, id="failed"),
        pytest.param(0, "", None, id="silent"),
    ],
)
def test_what_fstrim_claims(status: int, words: str, claimed: int | None) -> None:
    assert Trimmed(status, words).claimed == claimed
