#!/usr/bin/python
"""Unpack the fetched files of one run on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: unpack
short_description: Unpack the results, the report and the journal of one run
description:
  - Runs on the controller. The archive is of a hypervisor, so only the three files are taken, from one folder whose
    name is that of a run, and up to a size.
  - The files are for their owner alone.
author:
  - reclaim (@reclaim)
options:
  archive:
    description: The archive. It is removed afterwards.
    type: path
    required: true
  into:
    description: The folder of the hypervisor; the run gets a folder below it.
    type: path
    required: true
attributes:
  check_mode:
    support: full
    description: The files are unpacked all the same; they are no part of the hypervisor.
  diff_mode:
    support: none
    description: There is no diff.
"""

EXAMPLES = r"""
- name: Unpack
  reclaim.fleet.unpack:
    archive: reports-of-the-fleet/kvm1.tar.gz
    into: reports-of-the-fleet/kvm1
  delegate_to: localhost
"""

RETURN = r"""
run:
  description: The folder of the run.
  type: str
  returned: always
"""

import gzip
import os
import re
import shutil
import tarfile
from typing import IO

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.reclaim.fleet.plugins.module_utils import folder as folders

NAMES = ("results.json", "report.html", "journal.jsonl")
RUN = re.compile(r"\d{8}T\d{6}Z-(?:audit|plan|fix)(?:-\d+)?")
#: bytes of one file, and of one piece that is read
MOST = 1 << 30
PIECE = 1 << 20


class Bounded:
    """The stream of an archive. tarfile reads a header as long as that itself tells, into memory."""

    def __init__(self, raw: IO[bytes]) -> None:
        self.raw = raw
        self.tell = raw.tell
        self.seek = raw.seek

    def read(self, size: int) -> bytes:
        """Return *size* bytes. Raises ValueError if these are more than a header or a block has."""
        if not 0 <= size <= PIECE:
            raise ValueError(f"it has a header of {size} bytes")
        return self.raw.read(size)


def unpacked(archive: str, into: str) -> str:
    """Unpack *archive* below *into*. Return the folder of the run.

    Raises ValueError if it holds anything but the files of one run.
    """
    names = set()
    seen = set()
    with (
        gzip.open(archive) as raw,
        tarfile.open(fileobj=Bounded(raw), mode="r:") as packed,
    ):
        for member in packed:
            run, _slash, name = member.name.partition("/")
            if not member.isreg() or not RUN.fullmatch(run) or name not in NAMES:
                raise ValueError(f"{member.name!r} is no file of a run")
            if not 0 <= member.size <= MOST:
                raise ValueError(f"{member.name} has {member.size} bytes")
            if member.name in seen:
                raise ValueError(f"{member.name} is there twice")
            seen.add(member.name)
            names.add(run)
            if len(names) > 1:
                raise ValueError("it has the files of several runs")
            target = os.path.join(into, run)
            folders.make(target)
            put(packed.extractfile(member), os.path.join(target, name))
    if not names:
        raise ValueError("it is empty")
    return os.path.join(into, names.pop())


def put(content: IO[bytes], path: str) -> None:
    """Write *content* to *path*, whole or not at all, for its owner alone."""
    temporary = path + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream)
    os.replace(temporary, path)


def main() -> None:
    """Unpack the archive."""
    module = AnsibleModule(
        argument_spec={
            "archive": {"type": "path", "required": True},
            "into": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    os.umask(0o077)
    archive = module.params["archive"]
    try:
        run = unpacked(archive, module.params["into"])
    except (ValueError, EOFError, tarfile.TarError) as exc:
        module.fail_json(msg=f"{archive}: {exc}")
    except OSError as exc:
        module.fail_json(msg=f"{exc.filename or archive}: {exc.strerror or exc}")
    finally:
        if os.path.isfile(archive):
            os.unlink(archive)
    module.exit_json(changed=False, run=run)


if __name__ == "__main__":
    main()
