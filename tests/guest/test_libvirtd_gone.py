"""libvirt's daemon may be killed at any moment of a run: that is an error in a line, and no traceback."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import libvirt
import pytest

from tests.command import Outcome, audit
from tests.corpus import private
from tests.support import disk_xml, domain_xml

pytestmark = pytest.mark.guest

_GUESTS = ("one", "two")


def _killed(folder: Path, hook: str) -> Outcome:
    """A run in which the daemon is killed in *hook*; only some checks, for it is waited for a minute."""
    with private.libvirtd(folder) as uri:
        connection = libvirt.open(uri)
        for name in _GUESTS:
            connection.defineXML(domain_xml(disk_xml(), name=name, running=False).replace("type='test'", "type='qemu'"))
        connection.close()
        socket = Path(parse_qs(urlsplit(uri).query)["socket"][0])
        process = (socket.parent / "own.pid").read_text("ascii").strip()
        return audit(
            folder / "reports",
            "-p",
            "tests.driver.stopper",
            "-k",
            "machine_type or disk_bus",
            uri=uri,
            env={"STOP_AT": f"{hook}:SIGKILL@{process}"},
        )


@pytest.mark.parametrize(
    "hook", ["sessionstart", *(pytest.param(one, marks=pytest.mark.long) for one in ("itemcollected", "logreport"))]
)
def test_the_run_says_so_row_by_row(tmp_path: Path, hook: str) -> None:
    done = _killed(tmp_path, hook)
    assert "INTERNALERROR" not in done.said
    assert "Traceback" not in done.said
    assert done.status == 1
    verdicts = {row["verdict"] for row in done.document["results"]}
    assert verdicts <= {"error", "noncompliant", "compliant"}
    # what was collected before is known already
    assert "error" in verdicts or hook == "logreport"
