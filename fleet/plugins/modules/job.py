#!/usr/bin/python
"""Run reclaim on a hypervisor as a job of its own, and wait for its end."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job
short_description: Run reclaim on a hypervisor, detached from the connection
description:
  - Starts C(reclaim audit), C(plan), C(fix) or C(undo) as a job of its own, and waits for its end.
    The job goes on if the connection breaks; the same task attaches to it again.
  - One job runs at a time. If another one runs than the one that is asked for, the task fails.
  - Findings do not fail the task, nor does RV(went_wrong), since the results are to be fetched first.
  - With C(--check) a fix is a plan, and an undo only names the run.
author:
  - reclaim (@reclaim)
options:
  folder:
    description: The folder of reclaim on the hypervisor, as M(reclaim.fleet.program) made it.
    type: path
    required: true
  mode:
    description: The verb.
    type: str
    choices: [audit, plan, fix, undo]
    required: true
  arguments:
    description: Options of reclaim, a word each.
    type: list
    elements: str
    default: []
  rollout:
    description:
      - The name of a rollout. A fix of the same name and with the same options, inventory and version that came to
        its end on this hypervisor, and where nothing went wrong, is not made again.
    type: str
    default: ""
  run:
    description: For C(undo), the run. By default it is that of the last fix that was made by this module.
    type: str
    default: ""
  inventory:
    description: The inventory file of reclaim on the hypervisor.
    type: path
  seconds:
    description: How long the end of the job is waited for. A job that takes longer goes on.
    type: int
    default: 43200
attributes:
  check_mode:
    support: full
    description: A fix is a plan, and an undo only names the run.
  diff_mode:
    support: partial
    description: The changes of a plan and of a fix.
"""

EXAMPLES = r"""
- name: Audit
  reclaim.fleet.job:
    folder: /opt/reclaim
    mode: audit
    arguments: ["--guests", "web*"]
"""

RETURN = r"""
status:
  description: The exit status of reclaim.
  type: int
  returned: always
sentence:
  description: The result in one sentence.
  type: str
  returned: always
went_wrong:
  description: Whether a change was rolled back or failed, looking failed, a guest was left off, or it was cut short.
  type: bool
  returned: always
trouble:
  description: The reasons for that in one line.
  type: str
  returned: always
skipped_as_done:
  description: Whether the rollout is done with this hypervisor.
  type: bool
  returned: always
attached:
  description: Whether the job ran already.
  type: bool
  returned: always
run:
  description: The folder of the run's reports on the hypervisor.
  type: str
  returned: always
outcome:
  description: The outcome of results.json.
  type: dict
  returned: always
archive:
  description: An archive of results, report and journal on the hypervisor; empty if there is none.
  type: str
  returned: always
output:
  description: The file with everything that reclaim printed, on the hypervisor.
  type: str
  returned: always
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.reclaim.fleet.plugins.module_utils import folder as folders

#: the files of a job
REQUEST = "request.json"
STATUS = "status.json"
END = "run.json"
OUTPUT = "output.txt"
ARCHIVE = "files.tar.gz"
FETCHED = ("results.json", "report.html", "journal.jsonl")
#: exit statuses of a run that came to its end: everything holds, findings, nothing to judge, not all was seen
ENDS = (0, 1, 5, 6)
#: seconds between two looks for the end of a job, and between two looks whether it still runs
PAUSE = 0.2
LOOK = 5.0
#: tries to begin a job
TRIES = 50
#: jobs that are kept
KEPT = 50
#: characters of diffs that are shown
MOST = 100_000
#: words for the counts of an outcome that went wrong
COUNTS = (
    ("rolled_back", "rolled back"),
    ("errors", "could not be looked at"),
    ("left_off", "left off"),
    ("failed", "could not be changed"),
)


class Trouble(Exception):
    """The job cannot be done, for the reason in its words."""


# The job's own process ------------------------------------------------------------------------


def start(program: str, request: dict[str, Any], job: str, lock: int) -> None:
    """Run *program* as a process of its own session, which writes its exit status and holds the *lock*."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        status = run(program, request, job, lock)
        folders.write_json(
            os.path.join(job, STATUS), {"status": status, "ended": time.time()}
        )
    finally:
        os._exit(0)


def run(program: str, request: dict[str, Any], job: str, lock: int) -> int:
    """Run *program* and return its exit status; 127 if it cannot be started."""
    words = [program, request["mode"], *request["words"]]
    if request["mode"] != "undo":
        words += ["--run-json", os.path.join(job, END)]
    with open(os.path.join(job, OUTPUT), "wb") as output:
        try:
            # it keeps the lock too: then no other job begins if this process is killed
            return subprocess.call(
                words,
                cwd=job,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TERM": "dumb", "LC_ALL": "C.UTF-8"},
                pass_fds=[lock],
            )
        except OSError as exc:
            output.write(f"{program}: {exc.strerror}\n".encode())
            return 127


# Waiting for it -------------------------------------------------------------------------------


def begun(folder: str, program: str, request: dict[str, Any]) -> tuple[str, bool]:
    """Start the job of *request*, or find it running. Return its folder, and whether it ran already.

    Raises Trouble if another job runs.
    """
    for _ in range(TRIES):
        try:
            lock = folders.lock(folder)
        except folders.Busy as busy:
            job = os.path.join(folder, folders.JOBS, os.path.basename(str(busy)))
            # a job that is about to end, or a look whether one runs
            if not os.path.isfile(os.path.join(job, STATUS)) and str(busy):
                return running(job, request), True
            time.sleep(PAUSE)
            continue
        try:
            return begin(folder, program, request, lock), False
        finally:
            os.close(lock)
    raise Trouble("reclaim is being installed here, or removed: try again")


def begin(folder: str, program: str, request: dict[str, Any], lock: int) -> str:
    """Start the job of *request*, and return its folder."""
    jobs = os.path.join(folder, folders.JOBS)
    folders.make(jobs)
    prune(jobs)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = f"{stamp}-{request['mode']}-{os.getpid()}"
    job = os.path.join(jobs, name)
    os.mkdir(job, folders.PRIVATE)
    folders.write_json(os.path.join(job, REQUEST), request)
    folders.name_holder(lock, name)
    start(program, request, job, lock)
    return job


def running(job: str, request: dict[str, Any]) -> str:
    """Return the folder of the running *job* if it is that of *request*. Raises Trouble if it is another one."""
    if folders.read_json(os.path.join(job, REQUEST)) != request:
        raise Trouble(
            f"another job runs here, {os.path.basename(job)}: the same playbook with the same options attaches to it; "
            "else wait for its end"
        )
    return job


def ended(folder: str, job: str, seconds: int) -> int | None:
    """Wait until the *job* has ended. Return its exit status, or None if it was killed.

    Raises Trouble after *seconds*.
    """
    deadline = time.monotonic() + seconds
    look = time.monotonic() + LOOK
    path = os.path.join(job, STATUS)
    while not os.path.isfile(path):
        now = time.monotonic()
        if now > deadline:
            raise Trouble(
                f"the job {job} still runs after {seconds} s, and goes on: run the same playbook again to attach to it"
            )
        if now > look:
            look = now + LOOK
            if not is_running(folder, job):
                break
        time.sleep(PAUSE)
    # a job that is not running may have ended in between
    status = folders.read_json(path)
    return status["status"] if status is not None else None


def is_running(folder: str, job: str) -> bool:
    """Return whether the *job* holds the lock."""
    try:
        os.close(folders.lock(folder))
    except folders.Busy as busy:
        return str(busy) == os.path.basename(job)
    return False


def prune(jobs: str) -> None:
    """Remove the oldest jobs, but for the last fix, which undo looks for. Their reports lie elsewhere."""
    last = last_fix_in(jobs)
    for name in sorted(os.listdir(jobs))[:-KEPT]:
        if name != last:
            shutil.rmtree(os.path.join(jobs, name), ignore_errors=True)


# Its result -----------------------------------------------------------------------------------


def result_of(job: str, status: int | None) -> dict[str, Any]:
    """Return the result of the *job* that ended with *status*; None: it was killed."""
    end = folders.read_json(os.path.join(job, END)) or {}
    part = (end.get("hypervisors") or [{}])[0]
    if status is None and "status" in end:
        status = end[
            "status"
        ]  # reclaim came to its end, and the process that waited for it was killed
    outcome = part.get("outcome") or {}
    lines = list(end.get("errors") or [])
    went_wrong = bool(end.get("went_wrong", True)) or status not in ENDS
    if status is None:
        lines.append(
            "the job was killed before its end; the next run names what it left"
        )
    elif not end:
        lines.append(f"reclaim ended with status {status}: {tail(job)}")
    lines += [
        f"{outcome[name]} rows {words}" for name, words in COUNTS if outcome.get(name)
    ]
    run_folder = part.get("folder") or ""
    return {
        "changed": bool(outcome.get("applied")),
        "status": status,
        "sentence": end.get("sentence", ""),
        "went_wrong": went_wrong,
        "trouble": "; ".join(lines) if went_wrong else "",
        "skipped_as_done": False,
        "run": run_folder,
        "outcome": outcome,
        "archive": archive(job, run_folder),
        "output": os.path.join(job, OUTPUT),
    }


def tail(job: str) -> str:
    """Return the last line that the *job* printed."""
    try:
        with open(os.path.join(job, OUTPUT), "rb") as output:
            output.seek(max(0, os.fstat(output.fileno()).st_size - 2000))
            lines = output.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return "it printed nothing"
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1][:500] if printed else "it printed nothing"


def archive(job: str, run_folder: str) -> str:
    """Pack the files of the run in *run_folder* to be fetched. Return the path of the archive, "" if there are none."""
    names = [
        name
        for name in FETCHED
        if run_folder and os.path.isfile(os.path.join(run_folder, name))
    ]
    if not names:
        return ""
    path = os.path.join(job, ARCHIVE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with (
        os.fdopen(descriptor, "wb") as raw,
        tarfile.open(fileobj=raw, mode="w:gz") as packed,
    ):
        for name in names:
            with open(os.path.join(run_folder, name), "rb") as content:
                data = content.read()
            member = tarfile.TarInfo(f"{os.path.basename(run_folder)}/{name}")
            member.size, member.mode = len(data), 0o600
            packed.addfile(member, io.BytesIO(data))
    return path


def diffs(run_folder: str) -> str:
    """Return the diffs of the changes in the record of *run_folder*."""
    record = folders.read_json(os.path.join(run_folder, "results.json")) or {}
    texts = [
        "{}\n{}\n".format(change["target"], change["diff"])
        for row in record.get("results", [])
        for change in row["changes"]
    ]
    return "\n".join(texts)[:MOST]


# A rollout ------------------------------------------------------------------------------------


def digest(program: str, request: dict[str, Any], inventory: str) -> str:
    """Return a text that is the same for the same fix: its version, its options and the content of its inventory."""
    content = b""
    if inventory:
        with open(inventory, "rb") as stream:
            content = stream.read()
    parts = [os.path.realpath(program), json.dumps(request, sort_keys=True)]
    text = "\0".join(parts).encode() + b"\0" + content
    return hashlib.sha256(text).hexdigest()


def mark_of(folder: str, rollout: str) -> str:
    """Return the path of the mark that *rollout* is done here."""
    name = hashlib.sha256(rollout.encode()).hexdigest()[:16]
    return os.path.join(folder, folders.ROLLOUTS, name + ".json")


def is_done(result: dict[str, Any], arguments: list[str]) -> bool:
    """Return whether nothing is left to a fix with *arguments* that ended with *result*."""
    waits = "--restart" in arguments and result["outcome"].get("pending")
    return not result["went_wrong"] and not waits


def as_done(mark: dict[str, Any]) -> dict[str, Any]:
    """Return the result for a hypervisor that has the *mark* of this rollout."""
    return {
        "changed": False,
        "status": mark["status"],
        "sentence": mark["sentence"],
        "went_wrong": False,
        "trouble": "",
        "skipped_as_done": True,
        "attached": False,
        "run": mark["run"],
        "outcome": mark["outcome"],
        "archive": "",
        "output": "",
    }


def unseen_end(folder: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result of the newest job of *request* if it ended with nothing left, and no task saw that.

    The connection broke, or Ansible was stopped.
    """
    jobs = os.path.join(folder, folders.JOBS)
    names = sorted(os.listdir(jobs), reverse=True) if os.path.isdir(jobs) else []
    for name in names:
        job = os.path.join(jobs, name)
        if folders.read_json(os.path.join(job, REQUEST)) != request:
            continue
        status = folders.read_json(os.path.join(job, STATUS))
        if status is None:
            return None
        result = result_of(job, status["status"])
        result["attached"] = True
        return result if is_done(result, request["words"]) else None
    return None


def rolled_out(
    module: AnsibleModule, program: str, request: dict[str, Any]
) -> dict[str, Any]:
    """Do the job of *request*, unless its rollout is done here. Return the result."""
    folder, rollout = module.params["folder"], module.params["rollout"]
    if request["mode"] != "fix" or not rollout:
        return done(module, program, request)
    path = mark_of(folder, rollout)
    wanted = digest(program, request, module.params["inventory"])
    request.update(rollout=rollout, digest=wanted)
    mark = folders.read_json(path)
    if mark is not None and mark["digest"] == wanted:
        return as_done(mark)
    result = unseen_end(folder, request) or done(module, program, request)
    if is_done(result, request["words"]):
        folders.make(os.path.dirname(path))
        kept = ("status", "sentence", "run", "outcome")
        mark = {"rollout": rollout, "digest": wanted}
        mark.update((name, result[name]) for name in kept)
        folders.write_json(path, mark)
    return result


def done(
    module: AnsibleModule, program: str, request: dict[str, Any]
) -> dict[str, Any]:
    """Do the job of *request*, and return its result."""
    folder = module.params["folder"]
    job, attached = begun(folder, program, request)
    status = ended(folder, job, module.params["seconds"])
    result = result_of(job, status)
    result["attached"] = attached
    return result


# Undo -----------------------------------------------------------------------------------------


def last_fix(folder: str) -> str:
    """Return the folder of the last fix that changed something; "" if there is none."""
    jobs = os.path.join(folder, folders.JOBS)
    job = last_fix_in(jobs) if os.path.isdir(jobs) else ""
    return os.path.dirname(journal_of(os.path.join(jobs, job))) if job else ""


def last_fix_in(jobs: str) -> str:
    """Return the name of the last job in the folder *jobs* with a journal; "" if there is none."""
    for name in sorted(os.listdir(jobs), reverse=True):
        if journal_of(os.path.join(jobs, name)):
            return name
    return ""


def journal_of(job: str) -> str:
    """Return the path of the journal of the fix that *job* made; "" if there is none."""
    end = folders.read_json(os.path.join(job, END)) or {}
    for part in end.get("hypervisors") or []:
        journal = part.get("journal")
        if journal and os.path.isfile(journal):
            return str(journal)
    return ""


def standing(run_folder: str) -> dict[str, Any]:
    """Return the outcome of the run in *run_folder*, with the number of its changes that stand."""
    record = folders.read_json(os.path.join(run_folder, "results.json")) or {}
    return record.get("outcome") or {}


def undone(
    module: AnsibleModule, program: str, request: dict[str, Any]
) -> dict[str, Any]:
    """Take the changes of a run back, and return the result."""
    folder = module.params["folder"]
    run_folder = module.params["run"] or last_fix(folder)
    result = {
        "changed": False,
        "status": 0,
        "sentence": "There is no fix to take back.",
        "went_wrong": False,
        "trouble": "",
        "skipped_as_done": False,
        "attached": False,
        "run": run_folder,
        "outcome": {},
        "archive": "",
        "output": "",
    }
    if not run_folder:
        return result
    before = standing(run_folder)
    result["outcome"] = before
    if module.check_mode:
        result["changed"] = bool(before.get("applied"))
        result["sentence"] = f"undo would take back {run_folder}."
        return result
    request["words"] = [run_folder, *request["words"]]
    job, result["attached"] = begun(folder, program, request)
    status = ended(folder, job, module.params["seconds"])
    after = standing(run_folder)
    counts = before.get("applied", 0), after.get("applied", 0)
    result.update(
        changed=counts[1] != counts[0],
        status=status,
        sentence=f"{counts[0] - counts[1]} of {counts[0]} changes were taken back.",
        went_wrong=status != 0,
        trouble="" if status == 0 else "not everything was taken back: " + tail(job),
        outcome=after,
        archive=archive(job, run_folder),
        output=os.path.join(job, OUTPUT),
    )
    return result


def main() -> None:
    """Do the job that the task asks for."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "mode": {
                "type": "str",
                "required": True,
                "choices": ["audit", "plan", "fix", "undo"],
            },
            "arguments": {"type": "list", "elements": "str", "default": []},
            "rollout": {"type": "str", "default": ""},
            "run": {"type": "str", "default": ""},
            "inventory": {"type": "path"},
            "seconds": {"type": "int", "default": 43200},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    params = module.params
    program = os.path.join(params["folder"], folders.CURRENT, "bin", "reclaim")
    mode = params["mode"]
    if mode == "fix" and module.check_mode:
        mode = "plan"
    words = list(params["arguments"])
    if params["inventory"]:
        words += ["--inventory", params["inventory"]]
    request = {"mode": mode, "words": words}
    if not os.path.isfile(program):
        module.fail_json(
            msg=f"reclaim is not installed here ({program}): run the playbook reclaim.fleet.install first"
        )
    if any(word.partition("=")[0] == "--hosts" for word in words):
        module.fail_json(
            msg="--hosts is no option of a job: Ansible goes to each hypervisor of its inventory"
        )
    try:
        folders.expect_safe(params["folder"])
        work = undone if mode == "undo" else rolled_out
        result = work(module, program, request)
    except Trouble as exc:
        module.fail_json(msg=str(exc))
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename}: {exc.strerror}")
    if mode == "plan":
        result["changed"] = bool(result["run"]) and bool(diffs(result["run"]))
    if module._diff and result["run"] and mode in ("plan", "fix"):
        result["diff"] = {"prepared": diffs(result["run"])}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
