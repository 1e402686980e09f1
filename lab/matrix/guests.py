"""Makes the guests of the matrix: copies of its disks, edited while they are off, and their definitions."""

from __future__ import annotations

import concurrent.futures
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import libvirt
from lxml import etree

from lab import domain, guest, host, machines, paths, tools
from lab.error import LabError
from lab.guest import LabGuest
from lab.image import MEBIBYTE
from lab.matrix import Case, Disk, build, replaced
from lab.matrix.installations import layout

MEMORY_MIB = 512
BOOT_SECONDS = 900.0
"""The limit for a guest to answer: some boot at the same time, and a busy host makes that minutes."""
AT_ONCE = 3
"""Guests that boot at the same time."""


def up(cases: Iterable[Case]) -> list[LabGuest | LabError]:
    """Make and start the guests, and return each when it answers and is as its case says, or why it is not."""
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_created, cases))


def _created(case: Case) -> LabGuest | LabError:
    try:
        return create(case)
    except LabError as error:
        return error


def create(case: Case) -> LabGuest:
    """Make one guest, start it, and bring it into its state. Raises LabError as `lab.guest.create` does."""
    made = LabGuest(case.domain, _image(case, 0), paths.console(case.domain))
    guest.destroy(made.name)
    try:
        _copy_disks(case)
        _define(case, case.disks)
        guest.start(made)
        if case.agent:
            guest.wait_for_agent(made, BOOT_SECONDS)
        else:
            _wait_for_login(made)
        if case.inside:
            done = guest.run(made, case.inside)
            if done.code != 0:
                raise LabError(
                    f"{made.name} cannot be brought into its state: {done.err.strip()}"
                )
        if case.later:
            _define(case, case.later)
    except LabError:
        guest.destroy(made.name)
        raise
    return made


def _wait_for_login(made: LabGuest) -> None:
    end = time.monotonic() + BOOT_SECONDS
    while "login:" not in guest.console_tail(made):
        if time.monotonic() > end:
            raise LabError(
                f"{made.name} did not ask who logs in within {BOOT_SECONDS:.0f} s"
            )
        time.sleep(1)


def _image(case: Case, number: int) -> Path:
    return paths.guests() / f"{case.domain}.{number}.raw"


def _copy_disks(case: Case) -> None:
    for number, disk in enumerate(case.disks):
        target = _image(case, number)
        tools.call(
            [
                "cp",
                "--sparse=always",
                "--reflink=auto",
                str(build.disk(disk.image)),
                str(target),
            ],
            seconds=600,
        )
    if case.files or case.links or case.copies or case.replaced:
        with tempfile.TemporaryDirectory(dir=paths.guests()) as folder:
            offset = (layout(case.disks[0].image).at or 0) * MEBIBYTE
            _edit(case, f"{_image(case, 0)}?offset={offset}", Path(folder))


def _edit(case: Case, filesystem: str, folder: Path) -> None:
    """Write the files of the case into an ext4 that nobody has mounted."""
    images = build.folder(case.disks[0].image)
    release = (images / "release").read_text(encoding="utf-8")
    commands: list[str] = []

    def write(path: str, content: bytes) -> None:
        beside = folder / str(len(commands))
        beside.write_bytes(content)
        mode = "0100755" if content.startswith(b"#!") else "0100644"
        commands.extend(
            [f"rm {path}", f"write {beside} {path}", f"sif {path} mode {mode}"]
        )

    texts = dict(case.files)
    for path, pattern, new in case.replaced:
        before = texts.get(path) or tools.call(
            ["debugfs", "-R", f"cat {path}", filesystem], seconds=60
        )
        texts[path] = replaced(before, pattern, new)
    for path, text in texts.items():
        write(path, text.encode())
    for path, name in case.copies.items():
        write(path.format(release=release), (images / name).read_bytes())
    for path, target in case.links.items():
        commands += [f"mkdir {Path(path).parent}", f"symlink {path} {target}"]
    script = folder / "commands"
    script.write_text("\n".join(commands) + "\n", encoding="utf-8")
    tools.call(["debugfs", "-w", "-f", str(script), filesystem], seconds=60)
    # debugfs ends well whatever it could not do
    for path, text in texts.items():
        if tools.call(["debugfs", "-R", f"cat {path}", filesystem], seconds=60) != text:
            raise LabError(
                f"{path} could not be written into the image of {case.domain}"
            )


def _define(case: Case, disks: tuple[Disk, ...]) -> None:
    hardware = domain.Hardware(
        machines.here(case.machine), memory_mib=MEMORY_MIB, vcpus=1
    )
    base = domain.definition(
        case.domain,
        host.accelerator(),
        hardware,
        _image(case, 0),
        paths.console(case.domain),
    )
    root = etree.fromstring(base)
    connection = host.ensure_libvirt()
    try:
        known = connection.lookupByName(case.domain).UUIDString()
        etree.SubElement(root, "uuid").text = known
    except libvirt.libvirtError:
        pass  # it is new
    devices = root.find("devices")
    assert devices is not None
    for element in [*devices.findall("disk"), *devices.findall("controller")]:
        devices.remove(element)
    for number, disk in enumerate(disks):
        _add(devices, disk, number, _image(case, number))
    for index, model in {
        disk.controller: disk.model for disk in disks if disk.bus == "scsi"
    }.items():
        etree.SubElement(
            devices, "controller", type="scsi", index=str(index), model=model
        )
    if case.firmware:
        loader = root.find("os")
        assert loader is not None
        loader.set("firmware", "efi")
        etree.SubElement(
            etree.SubElement(loader, "firmware"),
            "feature",
            enabled="no",
            name="secure-boot",
        )
    try:
        connection.defineXMLFlags(
            etree.tostring(root, encoding="unicode"), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
        )
    except libvirt.libvirtError as error:
        raise LabError(
            f"libvirt does not take the definition of {case.domain}: {error}"
        ) from None


def _add(devices: etree.Element, disk: Disk, number: int, image: Path) -> None:
    element = etree.SubElement(devices, "disk", type="file", device="disk")
    driver = etree.SubElement(
        element, "driver", name="qemu", type="raw", cache="writeback"
    )
    if disk.discard:
        driver.set("discard", disk.discard)
    etree.SubElement(element, "source", file=str(image))
    etree.SubElement(element, "target", dev=disk.target(number), bus=disk.bus)
    if disk.bus == "scsi":
        unit = str(number if disk.controller == 0 else 0)
        etree.SubElement(
            element,
            "address",
            type="drive",
            controller=str(disk.controller),
            bus="0",
            target="0",
            unit=unit,
        )
