#!/usr/bin/python
"""Install reclaim on a hypervisor from a bundle, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: program
short_description: Install reclaim on a hypervisor from a bundle, without a package index
description:
  - Makes a virtual environment from the wheels of a bundle (C(make bundle)). It needs neither a network nor the
    distribution's packages of venv and pip, and uses the distribution's libvirt binding.
  - A new version is made beside the old one, tried, and then put in its place.
author:
  - reclaim (@reclaim)
options:
  folder:
    description: The folder of reclaim on the hypervisor.
    type: path
    required: true
  bundle:
    description: The bundle, on the hypervisor. It is required if O(state=present).
    type: path
  state:
    description:
      - Whether reclaim is to be there. With V(folder) only its folder is made, for its owner alone.
      - A folder that is there with anything of somebody else in it is refused.
    type: str
    choices: [present, folder, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Nothing is installed or removed.
  diff_mode:
    support: none
    description: There is no diff.
"""

EXAMPLES = r"""
- name: Install
  reclaim.fleet.program:
    folder: /opt/reclaim
    bundle: /opt/reclaim/bundle.tar.gz
"""

RETURN = r"""
version:
  description: The versions that C(reclaim --version) prints; empty if reclaim is not there.
  type: str
  returned: always
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.reclaim.fleet.plugins.module_utils import folder as folders

WHEELS = "wheels"
BUNDLE = "bundle.tar.gz"
INVENTORY = "inventory.toml"


class Trouble(Exception):
    """reclaim cannot be installed or removed, for the reason in its words."""


def environment_of(bundle: str) -> str:
    """Return the name of the environment that is made from *bundle* by this Python."""
    sha = hashlib.sha256(sys.version.encode())
    with open(bundle, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            sha.update(block)
    return folders.VENV + sha.hexdigest()[:16]


def ran(words: list[str]) -> str:
    """Run *words* and return what they print. Raises Trouble with the end of that if they fail."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith("PYTHON")
    }
    environment.update(PIP_CONFIG_FILE=os.devnull, PIP_NO_INPUT="1", LC_ALL="C.UTF-8")
    done = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        check=False,
    )
    printed = done.stdout.decode("utf-8", "replace").strip()
    if done.returncode:
        raise Trouble(f"{words[0]}: {printed[-800:]}")
    return printed


def version_of(environment: str) -> str:
    """Return the versions that the reclaim in *environment* prints; "" if it does not run."""
    try:
        return ran([os.path.join(environment, "bin", "reclaim"), "--version"])
    except (OSError, Trouble):
        return ""


def unpack(bundle: str, target: str) -> None:
    """Unpack the wheels of *bundle* into the folder *target*."""
    os.mkdir(target, folders.PRIVATE)
    with tarfile.open(bundle) as packed:
        for member in packed:
            name = os.path.basename(member.name)
            if not member.isreg() or not name.endswith(".whl"):
                continue
            with open(os.path.join(target, name), "wb") as wheel:
                shutil.copyfileobj(packed.extractfile(member), wheel)


def make(bundle: str, environment: str, wheels: str) -> None:
    """Make *environment* from *bundle*, with pip out of its own wheel."""
    shutil.rmtree(wheels, ignore_errors=True)
    shutil.rmtree(environment, ignore_errors=True)
    unpack(bundle, wheels)
    pips = [name for name in os.listdir(wheels) if name.startswith("pip-")]
    if not pips:
        raise Trouble(
            f"{bundle}: there is no wheel of pip in it: make it with `make bundle`"
        )
    ran(
        [
            sys.executable,
            "-m",
            "venv",
            "--without-pip",
            "--system-site-packages",
            environment,
        ]
    )
    python = os.path.join(environment, "bin", "python")
    pip = os.path.join(wheels, pips[0], "pip")
    options = [
        "--disable-pip-version-check",
        "--quiet",
        "--no-index",
        "--find-links",
        wheels,
    ]
    # packages of the distribution that are as new as needed would do, and could go away with an upgrade of it
    ran([python, pip, "install", *options, "--ignore-installed", "reclaim"])
    shutil.rmtree(wheels)


def install(folder: str, bundle: str, *, check: bool) -> tuple[bool, str]:
    """Install reclaim from *bundle*. Return whether that changed something, and the versions."""
    name = environment_of(bundle)
    environment = os.path.join(folder, name)
    current = os.path.join(folder, folders.CURRENT)
    is_current = os.path.islink(current) and os.readlink(current) == name
    version = version_of(environment) if is_current else ""
    if version or check:
        return not version, version
    make(bundle, environment, os.path.join(folder, WHEELS))
    version = ran([os.path.join(environment, "bin", "reclaim"), "--version"])
    temporary = current + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(name, temporary)
    os.replace(temporary, current)
    for other in environments(folder):
        if other != name:
            shutil.rmtree(os.path.join(folder, other), ignore_errors=True)
    return True, version


def environments(folder: str) -> list[str]:
    """Return the names of the environments in *folder*."""
    return [name for name in os.listdir(folder) if folders.ENVIRONMENT.fullmatch(name)]


def remove(folder: str, *, check: bool) -> bool:
    """Remove the files of this module and of `job`; the reports stay. Return whether that changed something."""
    ours = [
        name
        for name in (
            *environments(folder),
            folders.CURRENT,
            folders.JOBS,
            folders.ROLLOUTS,
            WHEELS,
            BUNDLE,
            INVENTORY,
            folders.LOCK,
        )
        if os.path.lexists(os.path.join(folder, name))
    ]
    if ours and not folders.is_ours(folder):
        raise Trouble(f"{folder}: reclaim did not make it, and removes nothing there")
    if check:
        return bool(ours)
    for name in ours:
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    # with reports in it, it stays ours
    if os.listdir(folder) in ([], [folders.MARKER]):
        shutil.rmtree(folder)
    return bool(ours)


def main() -> None:
    """Install or remove reclaim."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "bundle": {"type": "path"},
            "state": {
                "type": "str",
                "choices": ["present", "folder", "absent"],
                "default": "present",
            },
        },
        required_if=[("state", "present", ["bundle"])],
        supports_check_mode=True,
    )
    os.umask(0o077)
    folder, state = module.params["folder"], module.params["state"]
    if not os.path.isdir(folder) and (state == "absent" or module.check_mode):
        module.exit_json(changed=state != "absent", version="")
    lock = None
    try:
        if state != "absent":
            is_new = folders.claim(folder, check=module.check_mode)
        if state == "folder":
            module.exit_json(changed=is_new, version="")
        lock = folders.lock(folder)
        folders.name_holder(lock, "")
        if state == "absent":
            module.exit_json(
                changed=remove(folder, check=module.check_mode), version=""
            )
        changed, version = install(
            folder, module.params["bundle"], check=module.check_mode
        )
        module.exit_json(changed=changed, version=version)
    except folders.Busy as busy:
        module.fail_json(msg=f"a job of reclaim runs here ({busy}): wait for its end")
    except Trouble as exc:
        module.fail_json(msg=str(exc))
    except (OSError, tarfile.TarError) as exc:
        where = getattr(exc, "filename", None) or folder
        module.fail_json(
            msg="{}: {}".format(where, getattr(exc, "strerror", None) or exc)
        )
    finally:
        if lock is not None:
            os.close(lock)


if __name__ == "__main__":
    main()
