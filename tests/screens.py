"""Runs reclaim on a terminal of a chosen size, and fleets that are as large as wanted."""

from __future__ import annotations

import argparse
import copy
import io
import os
import pty
import re
import subprocess
import sys
import termios
import uuid
from pathlib import Path

import pytest
from lxml import etree

from reclaim.report.width import height
from tests.command import ROOT, own_settings

SAMPLES = ROOT / "lab/samples/fleet.xml"
_OURS = ("COLUMNS", "LINES", "NO_COLOR", "CI")
_COLOURS = re.compile(r"\x1b\[[0-9;]*[mK]")


def fleet(target: Path, count: int, *, good: int = 2) -> str:
    """Write *count* guests into *target*: of each *good* + 1 the last *good* are well, and the first is a sample.

    Return the URI of libvirt's test driver for them.
    """
    domains = [domain for domain in etree.parse(SAMPLES).getroot() if isinstance(domain.tag, str)]
    well = next(domain for domain in domains if domain.findtext("name") == "web")
    root = etree.Element("node")
    for number in range(count):
        is_well = number % (good + 1) != 0
        domain = copy.deepcopy(well if is_well else domains[number // (good + 1) % len(domains)])
        _rename(domain, f"{domain.findtext('name')}-{number:04}")
        root.append(domain)
    target.write_bytes(etree.tostring(root, pretty_print=True))
    return f"test://{target}"


def _rename(domain: etree._Element, name: str) -> None:
    for element in domain.iter("name"):
        if element.getparent() is domain:
            element.text = name
    for element in domain.iter("uuid"):
        if element.getparent() is domain:
            element.text = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    for source in domain.iter("source"):
        if path := source.get("file"):
            source.set("file", f"{path}.{name}")


Made = tuple[pytest.TerminalReporter, io.StringIO]


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def reporter_on(
    config: pytest.Config, patch: pytest.MonkeyPatch, columns: int = 0, lines: int = 24, verbosity: int = 0
) -> Made:
    """Make pytest's own reporter, and its output: a screen of so many columns and lines, or a pipe."""
    config = copy.copy(config)
    config.option = argparse.Namespace(**{**vars(config.option), "verbose": verbosity})
    patch.setenv("COLUMNS", str(columns or 80))
    patch.setenv("LINES", str(lines))
    out = _Screen() if columns else io.StringIO()
    made = pytest.TerminalReporter(config, out)
    made._tw.hasmarkup = False
    return made, out


def on_a_screen(
    reports: Path, uri: str, *arguments: str, columns: int = 80, lines: int = 24, target: str = "checks/"
) -> list[str]:
    """Return what is seen of a run on a terminal of this size, line by line, with its colours."""
    master, slave = pty.openpty()
    if hasattr(termios, "tcsetwinsize"):  # Python 3.11
        termios.tcsetwinsize(slave, (lines, columns))
    command = [sys.executable, "-m", "pytest", target, "--uri", uri, "--reports", str(reports), *arguments]
    size = {} if hasattr(termios, "tcsetwinsize") else {"COLUMNS": str(columns), "LINES": str(lines)}
    settings = {**own_settings(*_OURS), **size}
    with subprocess.Popen(
        command, cwd=ROOT, env={**settings, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                more = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not more:
                break
            said += more
        process.wait(timeout=60)
    os.close(master)
    return said.decode().replace("\r\n", "\n").split("\n")


def bare(line: str) -> str:
    """Return *line* without its colours, as it is seen: of what was rewritten the last."""
    return _COLOURS.sub("", line).rpartition("\r")[2]


def summary(lines: list[str]) -> list[str]:
    """Return the summary of a run, from its heading to pytest's last line."""
    texts = [bare(line) for line in lines]
    heading = re.compile(r"=+ reclaim: [^ ]+( SAMPLE DEFINITIONS)? =+")
    begin = max(number for number, text in enumerate(texts) if heading.fullmatch(text))
    return [text for text in texts[begin:] if text]


def rows_of(texts: list[str], columns: int) -> int:
    """Return the lines that *texts* take on a screen."""
    return sum(height(text, columns) for text in texts)
