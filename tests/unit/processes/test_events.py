"""libvirt's event loop, and connections that notice a silent daemon."""

from __future__ import annotations

import sys

import libvirt
import pytest

from reclaim.processes import events
from tests.command import FLEET, ran


def test_there_is_one_loop_that_ends_with_the_process() -> None:
    """In a process of its own: libvirt opens qemu:///embed in one that has an event loop."""
    program = (
        "import threading; from reclaim.processes import events; events.run(); events.run(); "
        "print([each.daemon for each in threading.enumerate() if 'events' in each.name])"
    )
    done = ran(sys.executable, "-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[True]\n", "")


def test_a_loop_that_fails_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    answers = iter([libvirt.libvirtError("it failed"), None, Ended()])

    def once() -> None:
        answer = next(answers)
        if answer is not None:
            raise answer

    monkeypatch.setattr(libvirt, "virEventRunDefaultImpl", once)
    monkeypatch.setattr(events, "_PAUSE", 0)
    with pytest.raises(Ended):
        events._loop()


def test_a_connection_that_knows_no_such_question_stays_as_it_is() -> None:
    connection = libvirt.open(FLEET)
    events.keep_alive(connection)
    assert connection.isAlive()
    connection.close()
