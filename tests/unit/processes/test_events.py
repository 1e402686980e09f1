"""libvirt's event loop, and connections that notice a silent daemon."""

from __future__ import annotations

import threading

import libvirt
import pytest

from reclaim.processes import events
from tests.command import FLEET


def _loops() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "libvirt's events"]


def test_there_is_one_loop_that_ends_with_the_process() -> None:
    events.run()
    events.run()
    assert [thread.daemon for thread in _loops()] == [True]


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
