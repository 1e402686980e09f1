"""pytest's JUnit file in the words of CI systems: a case is one requirement of one guest, in a class for each guest.

Jenkins takes the part of a class before its last dot for a package, so the names in a class have no dots.
"""

from __future__ import annotations

import os

import pytest
from _pytest.junitxml import LogXML, xml_key

from reclaim.base.text import printable
from reclaim.base.verdict import Result

_PYTESTS_SUITE = "pytest"
_SUITE = "reclaim"
_PATH = pytest.StashKey[str]()


def name(config: pytest.Config, report: pytest.TestReport, result: Result) -> None:
    """Name the case of *report* after its guest and requirement, before pytest writes it down."""
    writer = config.stash.get(xml_key, None)
    if writer is None:
        return
    if writer.suite_name == _PYTESTS_SUITE:
        writer.suite_name = _SUITE
    subject = (result.guest, result.requirement, result.disk, result.backup)
    case = writer.node_reporter(report)
    case.add_attribute("classname", _class(writer, result))
    case.add_attribute("name", printable("/".join(filter(None, subject))))


def hold(config: pytest.Config) -> None:
    """Keep pytest's own hook from the file: a failure there would keep the hooks behind it from being called."""
    writer = config.stash.get(xml_key, None)
    if writer is not None:
        config.stash[_PATH] = writer.logfile
        writer.logfile = os.devnull


def write(config: pytest.Config) -> str:
    """Write the file that was held. Return why that failed, or ""."""
    writer = config.stash.get(xml_key, None)
    if writer is None:
        return ""
    writer.logfile = config.stash[_PATH]
    try:
        writer.pytest_sessionfinish()
    except OSError as exc:
        # pytest would name a file that is not there
        config.pluginmanager.unregister(writer)
        del config.stash[xml_key]
        return f"--junitxml {writer.logfile}: {exc.strerror}"
    return ""


def _class(writer: LogXML, result: Result) -> str:
    of_no_guest = "backups" if result.backup else "hypervisor"
    names = [result.hypervisor, result.guest or of_no_guest]
    parts = [printable(part).replace(".", "_") for part in names]
    return ".".join(filter(None, [writer.prefix, *parts]))
