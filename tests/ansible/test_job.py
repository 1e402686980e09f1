"""The job on the hypervisor: detached, one at a time, attached to by the same task, and honest about its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.playing import Controller, Host
from tests.command import ran

pytestmark = pytest.mark.slow

_SECONDS = 60
#: it waits for a file, and ends as told
_WAITING = """#!/bin/sh
echo $$ >"{folder}/pid"
while [ ! -e "{folder}/go" ]; do sleep 0.1; done
exit 5
"""


def _words(controller: Controller, host: Host, **arguments: Any) -> list[str]:
    given = {"folder": str(host.home), "mode": "audit", **arguments}
    program = str(Path(sys.executable).with_name("ansible"))
    variables = json.dumps({"ansible_python_interpreter": sys.executable})
    return [program, "-i", "localhost,", "-c", "local", "-e", variables, "localhost", "-m", "reclaim.fleet.job", "-a",
            json.dumps(given)]  # fmt: skip


def _job(controller: Controller, host: Host, **arguments: Any) -> dict[str, Any]:
    """Return the result of one task with the module."""
    words = _words(controller, host, **arguments)
    return _result(ran(*words, stand=controller.folder, env=controller.environment, seconds=_SECONDS).stdout)


def _result(text: str) -> dict[str, Any]:
    result = json.loads(text.partition("=> ")[2])
    assert isinstance(result, dict), text
    return result


def _begin(controller: Controller, host: Host, **arguments: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _words(controller, host, **arguments),
        cwd=controller.folder,
        env=controller.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _wait_for(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + _SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def waiting(controller: Controller) -> Host:
    host = controller.host("kvm1")
    host.has(_WAITING.format(folder=host.folder))
    return host


def _pid(host: Host) -> int:
    file = host.folder / "pid"
    _wait_for(lambda: file.exists() and file.read_text(encoding="ascii").strip())
    return int(file.read_text(encoding="ascii"))


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[1])


def _kill_the_task(controller: Controller, *of_job: int) -> None:
    """Kill the module that waits on the hypervisor, which outlives Ansible there, and not the processes of its job."""
    home = f"HOME={controller.home}\0".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            is_ours = home in (process / "environ").read_bytes()
            name = (process / "comm").read_text(encoding="utf-8").strip()
            if is_ours and name.startswith("python") and int(process.name) not in of_job:
                os.kill(int(process.name), signal.SIGKILL)


def _ended(host: Host) -> bool:
    return all((job / "status.json").exists() for job in host.jobs)


def test_it_outlives_the_task_and_the_same_task_attaches_to_it(controller: Controller, waiting: Host) -> None:
    first = _begin(controller, waiting)
    pid = _pid(waiting)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=_SECONDS)
    os.kill(pid, 0)
    other = _job(controller, waiting, mode="fix")
    assert other["msg"].startswith(f"another job runs here, {waiting.jobs[0].name}: ")
    late = _job(controller, waiting, seconds=1)
    assert "still runs after 1 s, and goes on" in late["msg"]
    second = _begin(controller, waiting)
    (waiting.folder / "go").touch()
    result = _result(second.communicate(timeout=_SECONDS)[0])
    assert (result["attached"], result["status"]) == (True, 5) or _ended(waiting)
    assert len(waiting.jobs) in (1, 2), "it may have ended before the second task began"


def test_a_job_that_is_killed_went_wrong(controller: Controller, waiting: Host) -> None:
    task = _begin(controller, waiting)
    pid = _pid(waiting)
    os.kill(_parent(pid), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    result = _result(task.communicate(timeout=_SECONDS)[0])
    assert (result["status"], result["went_wrong"]) == (None, True)
    assert "the job was killed before its end" in result["trouble"]


@pytest.mark.parametrize(
    ("program", "status", "trouble"),
    [
        ("#!/bin/sh\necho no room >&2\nexit 3\n", 3, "reclaim ended with status 3: no room"),
        ("#!/bin/sh\nkill -9 $$\n", -9, "reclaim ended with status -9: it printed nothing"),
        ("#!/nothing\n", 127, "reclaim ended with status 127: "),
    ],
)
def test_a_program_without_a_record_went_wrong(controller: Controller, program: str, status: int, trouble: str) -> None:
    host = controller.host("kvm1")
    host.has(program)
    result = _job(controller, host)
    assert (result["changed"], result["status"], result["went_wrong"]) == (False, status, True)
    assert result["trouble"].startswith(trouble)
    assert result["archive"] == ""


def test_counts_of_what_went_wrong_are_told(controller: Controller) -> None:
    host = controller.host("kvm1")
    outcome = {"rolled_back": 2, "errors": 1, "left_off": 0, "failed": 2, "applied": 3, "pending": 0}
    end = {
        "went_wrong": True,
        "errors": [],
        "sentence": "3 of 4",
        "hypervisors": [{"folder": None, "outcome": outcome}],
    }
    host.has(f"""#!/bin/sh
while [ "$1" != --run-json ]; do shift; done
echo '{json.dumps(end)}' >"$2"
exit 1
""")
    result = _job(controller, host, mode="fix")
    assert (result["changed"], result["status"], result["went_wrong"]) == (True, 1, True)
    assert result["trouble"] == "2 rows rolled back; 1 rows could not be looked at; 2 rows could not be changed"


def test_the_end_of_a_rollouts_job_that_no_task_saw_is_taken_up(controller: Controller) -> None:
    host = controller.host("kvm1")
    outcome = {"rolled_back": 0, "errors": 0, "left_off": 0, "failed": 0, "applied": 3, "pending": 1}
    end = {"went_wrong": False, "errors": [], "sentence": "ended", "hypervisors": [{"outcome": outcome}]}
    host.has(f"""#!/bin/sh
while [ "$1" != --run-json ]; do shift; done
echo $$ >"{host.folder}/pid"
while [ ! -e "{host.folder}/go" ]; do sleep 0.1; done
echo '{json.dumps(end)}' >"$2"
exit 1
""")
    rollout = {"mode": "fix", "rollout": "autumn"}
    first = _begin(controller, host, **rollout)
    runner = _parent(_pid(host))
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=_SECONDS)
    _kill_the_task(controller, runner)
    (host.folder / "go").touch()
    _wait_for(lambda: _ended(host))
    result = _job(controller, host, **rollout)
    assert (result["changed"], result["attached"], result["skipped_as_done"]) == (True, True, False)
    again = _job(controller, host, **rollout)
    assert (again["changed"], again["skipped_as_done"], again["sentence"]) == (False, True, "ended")
    assert len(host.jobs) == 1
    waits = _job(controller, host, **rollout, arguments=["--restart"])
    assert not waits["skipped_as_done"], "other options are another fix"
    waits = _job(controller, host, **rollout, arguments=["--restart"])
    assert not waits["skipped_as_done"], "a row waits for a power cycle"
    assert len(host.jobs) == 3


def test_a_folder_that_others_can_write_to_is_not_used(controller: Controller) -> None:
    host = controller.host("kvm1")
    host.stands_in()
    (host.home / "jobs").mkdir()
    (host.home / "jobs").chmod(0o777)
    result = _job(controller, host)
    assert result["msg"] == f"{host.home / 'jobs'}: others can write there, and could change what is run"
    (host.home / "jobs").rmdir()
    host.home.chmod(0o777)
    assert _job(controller, host)["msg"] == f"{host.home}: others can write there, and could change what is run"


@pytest.mark.parametrize("words", [["--hosts", "a,b"], ["--hosts=a,b"]])
def test_a_job_is_for_one_hypervisor(controller: Controller, words: list[str]) -> None:
    host = controller.host("kvm1")
    host.stands_in()
    assert _job(controller, host, arguments=words)["msg"].startswith("--hosts is no option of a job: ")
    assert host.jobs == []
