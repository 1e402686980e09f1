"""A browser, and the pages that it opens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from reclaim.files import whole
from reclaim.record.record import Record
from reclaim.report import page
from tests import records
from tests.browser.window import OPTIONS, Window
from tests.command import audit
from tests.hostile import ESCAPES, TAG, domain


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents and "window" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="session")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for option in OPTIONS:
        options.add_argument(option)
    driver = webdriver.Chrome(options=options, service=Service(str(shutil.which("chromedriver"))))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def window(chromium: webdriver.Chrome) -> Window:
    found = Window(chromium)
    found.fresh()
    return found


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="session")
def static(pages: Path) -> Path:
    """Our own page: three guests, every verdict, changes, hostile text in every field that takes any."""
    rows = [
        *records.whole("web"),
        records.row("guest-access", "error", "mail", reason=f"could not look: {TAG}"),
        records.row("fstab-uuid", "waived", "mail", reason=f"inventory: {TAG}"),
        records.row("disk-discard", "fixed", "mail", "sda", changes=[records.change(applied=True)], evidence=TAG),
        records.row("disk-bus", "noncompliant", "mail", "sda", changes=[records.change(target=TAG, diff=f"+{TAG}")]),
        records.row("disk-bus", "compliant", "mail", "sdb"),
        records.row("live-definition", "pending", "mail"),
        records.row("disc-max", "not-assessable", "mail"),
        records.row("fstrim-timer", "not-applicable", "mail"),
        records.row("disk-bus", "noncompliant", TAG, TAG, title=TAG),
        records.row("disk-bus", "noncompliant", ESCAPES, "vda"),
        records.row("an-old-one", "noncompliant", "mail", title=TAG),
        records.row("disk-bus", "compliant", None, None, backup=TAG),
    ]
    disks = [records.storage("web"), records.storage("mail", path=TAG), records.storage(TAG, TAG, used=None)]
    spaces = [records.filesystem(TAG, type=TAG, source=TAG), records.filesystem(ESCAPES, size=None)]
    arguments = ["checks/", "--fix", TAG]
    found = records.record(rows, disks, mode="fix", hypervisor=TAG, arguments=arguments, filesystems=spaces)
    return _written(pages / "static.html", [found])


@pytest.fixture(scope="session")
def large(pages: Path) -> Path:
    """Ten thousand rows."""
    return _written(pages / "large.html", [Record.model_validate(records.fleet(10_000))])


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """reports/ after a plan of guests with hostile names, by `pytest checks/`."""
    folder = tmp_path_factory.mktemp("archive")
    node = folder / "node.xml"
    text = domain(TAG, f"/images/{TAG}") + domain(ESCAPES, "/images/x") + domain("mail", "/images/mail")
    node.write_text(f"<node>{text}</node>", encoding="utf-8")
    for _ in range(2):
        done = audit(folder / "reports", "--plan", "--metadata", "Host", TAG, uri=f"test://{node}")
        assert done.status == 1, done.said
    return folder / "reports"


@pytest.fixture(scope="session")
def carried(archive: Path) -> Path:
    """The same by pytest-html: rows.html of a run."""
    return next(archive.glob("*/latest/rows.html"))


@pytest.fixture(scope="session")
def named(archive: Path) -> Path:
    """The same by pytest-html, in a place that the user names, with a stylesheet beside it."""
    mine = archive.parent / "named" / "mine.html"
    uri = f"test://{archive.parent / 'node.xml'}"
    done = audit(mine.parent / "reports", "--plan", "--html", str(mine), uri=uri)
    assert done.status == 1, done.said
    return mine


@pytest.fixture(scope="session")
def fleet(pages: Path) -> Path:
    """Sixty guests that all have findings, each with reasons of its own, on filesystems of the host."""
    rows, disks = [], []
    for number in range(60):
        name = f"guest-{number:02}.example.org"
        for one in records.whole(name, broken=True, number=number):
            if one["verdict"] == "noncompliant":
                one["reason"] = f"{one['requirement']} of {name}: /var/lib/libvirt/images/{name}.qcow2 number {number}"
            rows.append(one)
        disks.append(records.storage(name, used=(number % 12) * records.GIB))
    spaces = [records.filesystem(), records.filesystem("/srv/images", type="btrfs")]
    return _written(pages / "fleet.html", [records.record(rows, disks, filesystems=spaces)])


@pytest.fixture(scope="session")
def mended(pages: Path) -> Path:
    """A fix of one guest with changes that stand, and steps that are left."""
    rows = [
        *records.whole("web"),
        records.row("disk-bus", "fixed", "web", "sdb", changes=[records.change(applied=True)]),
        records.row("fstab-uuid", "noncompliant", "mail", reason="/dev/vda1 is named by its bus"),
        records.row("boot-names", "noncompliant", "wiki", reason="GRUB_DEVICE is not understood"),
    ]
    found = records.record(
        rows,
        [records.storage("web"), records.storage("mail")],
        mode="fix",
        arguments=["checks/", "--inventory", "/etc/reclaim/inventory.toml", "--fix", "--restart"],
        filesystems=[records.filesystem()],
    )
    return _written(pages / "mended.html", [found])


def _written(path: Path, found: list[Record]) -> Path:
    whole.write(path, page.page(found, [Path("reports") / one.run.id for one in found]))
    return path
