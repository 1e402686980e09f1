"""Who else has an image: real files, links, overlays, devices; definitions on libvirt's test driver."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import libvirt
import pytest

from reclaim.base.errors import ProbeError
from reclaim.changes import preconditions
from reclaim.changes.qcow2_amend import ImageAmend
from reclaim.changes.sparsify import Sparsify
from reclaim.definition.domain import parse_xml
from reclaim.storage import image_users, volumes
from reclaim.storage.image_users import Chains, Use, users_of, uses
from tests.corpus.variants import arguments
from tests.support import InhabitedGuest, Inside, disk_xml, domain_xml, engine, inhabited, opened

if TYPE_CHECKING:
    from reclaim.handles.guest import Guest

CHANNEL = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"


def create(path: Path, *, base: str | Path | None = None, kind: str = "qcow2", base_kind: str = "qcow2") -> str:
    """A real image, on *base* where one is given."""
    below = ["-u", "-b", str(base), "-F", base_kind] if base else []
    command = ["qemu-img", "create", "-q", "-f", kind, *below, str(path), "16M"]
    subprocess.run(command, check=True, capture_output=True)
    return str(path)


def raw(target: str, source: str, *, bus: str = "virtio", device: str = "disk", inner: str = "") -> str:
    return disk_xml(target, bus, source, device=device, inner=inner).replace("type='qcow2'", "type='raw'")


def mine(folder: Path, disk: str, *others: str) -> Guest:
    """The guest `one`, which is off and has *disk*, beside *others*."""
    domains = [domain_xml(disk, CHANNEL, running=False), *others]
    return next(guest for guest in opened(folder, *domains).guests if guest.name == "one")


def other(*disks: str, running: bool = False, name: str = "two") -> str:
    return domain_xml(*disks, name=name, running=running)


def why(guest: Guest) -> str:
    return preconditions.why_not_started(guest) or ""


needs_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
pytestmark = needs_qemu_img


# What others have -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("as_target", ["vda", "vdb"])
def test_the_same_file_is_of_both(tmp_path: Path, as_target: str, *, running: bool) -> None:
    image = create(tmp_path / "a.qcow2")
    devices = [disk_xml(source=create(tmp_path / "b.qcow2"))] if as_target == "vdb" else []
    guest = mine(tmp_path, disk_xml(source=image), other(*devices, disk_xml(as_target, source=image), running=running))
    said = "two runs on its image" if running else "the guest two, which is off, uses"
    assert said in why(guest)
    assert image in why(guest)
    assert f"as {as_target}" in why(guest)


@pytest.mark.parametrize("how", ["symlink", "hard link", "dots", "folder"])
def test_by_another_path_it_is_the_same_file(tmp_path: Path, how: str) -> None:
    image = create(tmp_path / "a.qcow2")
    path = tmp_path / "b.qcow2"
    if how == "symlink":
        path.symlink_to(image)
    elif how == "hard link":
        os.link(image, path)
    elif how == "folder":
        (tmp_path / "link").symlink_to(tmp_path)
        path = tmp_path / "link/a.qcow2"
    else:
        path = tmp_path / ".." / tmp_path.name / "a.qcow2"
    guest = mine(tmp_path, disk_xml(source=image), other(disk_xml(source=str(path))))
    assert "the guest two" in why(guest)


def test_a_device_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    block = "<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/vg0/web'/>"
    disk = f"{block}<target dev='vda' bus='virtio'/></disk>"
    assert "two runs on its image /dev/vg0/web" in why(mine(tmp_path, disk, other(disk, running=True)))
    assert why(mine(tmp_path, disk)) == ""


@pytest.mark.slow
@pytest.mark.parametrize("levels", [1, 2, 5])
def test_what_an_overlay_stands_on_is_not_started(tmp_path: Path, levels: int) -> None:
    base = path = create(tmp_path / "base.qcow2")
    for level in range(levels):
        path = create(tmp_path / f"{level}.qcow2", base=path if level % 2 else Path(path).name)
    guest = mine(tmp_path, disk_xml(source=base), other(disk_xml(source=path), name="clone"))
    assert f"the guest clone uses {base} (vda), below an overlay (vda)" in why(guest)


def test_a_base_that_is_named_in_json_and_by_a_link_is_found(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2")
    (tmp_path / "link").symlink_to(base)
    name = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{tmp_path}/link"}}}}'
    clone = create(tmp_path / "clone.qcow2", base=name)
    assert "the guest two uses" in why(mine(tmp_path, disk_xml(source=base), other(disk_xml(source=clone))))


def test_a_raw_base_is_found_below_an_overlay(tmp_path: Path) -> None:
    base = create(tmp_path / "base.img", kind="raw")
    clone = create(tmp_path / "clone.qcow2", base=base, base_kind="raw")
    assert "the guest two uses" in why(mine(tmp_path, raw("vda", base), other(disk_xml(source=clone))))


def test_a_file_that_holds_the_data_of_another_image_is_not_its_own(tmp_path: Path) -> None:
    data = str(tmp_path / "data.img")
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", f"data_file={data},data_file_raw=on"]
    subprocess.run([*command, str(tmp_path / "a.qcow2"), "1M"], check=True)
    guest = mine(tmp_path, raw("vda", data), other(disk_xml(source=str(tmp_path / "a.qcow2"))))
    assert "the guest two, which is off, uses" in why(guest)


def test_a_mirror_of_another_guest_is_its_own(tmp_path: Path) -> None:
    copy = create(tmp_path / "copy.qcow2")
    root = opened(tmp_path, other(disk_xml())).guests[0].persistent.edit().root
    mirror = f"<mirror type='file' job='copy'><format type='qcow2'/><source file='{copy}'/></mirror>"
    from lxml import etree  # noqa: PLC0415

    disk = root.find("devices/disk")
    assert disk is not None
    disk.append(etree.fromstring(mirror))
    found = list(uses(opened(tmp_path, other(disk_xml())), root, "two"))
    assert Use("two", "vda", copy, "qcow2", writes=True) in found


@pytest.mark.parametrize("device", ["cdrom", "floppy"])
def test_what_another_guest_has_in_a_drive(tmp_path: Path, device: str) -> None:
    """A guest that reads what another writes reads nonsense; a floppy is written to."""
    image = create(tmp_path / "a.img", kind="raw")
    drive = (
        raw("fda", image, bus="fdc", device=device)
        if device == "floppy"
        else raw("sda", image, bus="sata", device=device)
    )
    assert "the guest two" in why(mine(tmp_path, raw("vda", image), other(drive)))


def test_a_network_disk_is_known_by_its_name(tmp_path: Path) -> None:
    def rbd(host: str, name: str) -> str:
        source = f"<source protocol='rbd' name='{name}'><host name='{host}'/></source>"
        return f"<disk type='network' device='disk'><driver name='qemu' type='raw'/>{source}<target dev='vda'/></disk>"

    assert "the guest two" in why(mine(tmp_path, rbd("mon1", "pool/web"), other(rbd("mon2", "pool/web"))))
    assert why(mine(tmp_path, rbd("mon1", "pool/web"), other(rbd("mon1", "pool/db")))) == ""


def test_a_volume_is_the_file_that_it_is(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    guest = mine(tmp_path, disk_xml(source=image))
    pool = f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>"
    made = guest.hypervisor.connection.storagePoolCreateXML(pool, 0)
    made.createXML(
        "<volume><name>a.qcow2</name><capacity>1048576</capacity><target><format type='qcow2'/></target></volume>", 0
    )
    disk = (
        "<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/><source pool='images' volume='a.qcow2'/>"
    )
    guest.hypervisor.connection.defineXML(other(f"{disk}<target dev='vda' bus='virtio'/></disk>"))
    assert "the guest two" in why(guest)


def volume(pool: str, name: str) -> str:
    source = f"<source pool='{pool}' volume='{name}'/><target dev='vda' bus='virtio'/>"
    return f"<disk type='volume' device='disk'><driver name='qemu' type='qcow2'/>{source}</disk>"


@pytest.mark.parametrize("is_active", [False, True])
@pytest.mark.parametrize("name", ["a.qcow2", "over.qcow2", "c.qcow2"])
def test_a_volume_that_its_pool_does_not_know_of_is_the_file_that_it_will_be(
    tmp_path: Path, name: str, *, is_active: bool
) -> None:
    """A pool that is not active tells of no volume; one that is tells of those that it had when it was refreshed."""
    image = create(tmp_path / "a.qcow2")
    guest = mine(tmp_path, disk_xml(source=image))
    connection = guest.hypervisor.connection
    pool = f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>"
    connection.storagePoolCreateXML(pool, 0) if is_active else connection.storagePoolDefineXML(pool, 0)
    create(tmp_path / "over.qcow2", base=image)
    create(tmp_path / "c.qcow2")
    connection.defineXML(other(volume("images", name)))
    assert ("the guest two" in why(guest)) is (name != "c.qcow2")


def test_a_volume_of_a_pool_that_is_gone_may_be_any_image(tmp_path: Path) -> None:
    guest = mine(tmp_path, disk_xml(source=create(tmp_path / "a.qcow2")), other(volume("images", "a.qcow2")))
    assert "libvirt does not report the place of its volume:images/a.qcow2 is" in why(guest)


@pytest.mark.parametrize(
    ("pool", "place"),
    [
        ("<pool type='logical'><target><path>/dev/vg</path></target></pool>", "/dev/vg/one"),
        ("<pool type='rbd'><source><name>vms</name></source></pool>", "rbd:vms/one"),
        ("<pool type='iscsi'><target><path>/dev/disk/by-path</path></target></pool>", ""),
    ],
)
def test_where_a_volume_is_to_be(pool: str, place: str) -> None:
    assert volumes.expected(parse_xml(pool, "x"), "one") == place


def test_firmware_that_both_write_is_of_both(tmp_path: Path) -> None:
    loader = f"<loader type='pflash' readonly='no'>{create(tmp_path / 'code.fd', kind='raw')}</loader></os>"
    disks = (disk_xml(source=create(tmp_path / f"{name}.qcow2")) for name in "ab")
    domains = [domain_xml(next(disks), CHANNEL, running=False), other(next(disks))]
    written = [one.replace("</os>", loader) for one in domains]
    assert "as loader" in why(next(guest for guest in opened(tmp_path, *written).guests if guest.name == "one"))
    read = [one.replace("readonly='no'", "readonly='yes'") for one in written]
    assert why(next(guest for guest in opened(tmp_path, *read).guests if guest.name == "one")) == ""


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (["-drive", "file=/a.img,if=none"], "/a.img"),
        (["/a.img"], "/a.img"),
        (["-drive", "driver=qcow2,file.driver=luks,file.file.filename=/a.img"], "/a.img"),
        (["-drive", 'file=json:{"driver":"raw",,"file":{"driver":"file",,"filename":"/a.img"}}'], "/a.img"),
        (["-blockdev", '{"driver":"qcow2","file":{"driver":"luks","file":{"filename":"/a.img"}}}'], "/a.img"),
        (["-blockdev", '{"driver":"quorum","children":[{"driver":"file","filename":"/a.img"}]}'], "/a.img"),
        (["-blockdev", "driver=io_uring,path=/dev/vg/a,node-name=n"], "/dev/vg/a"),
        (["-blockdev", "driver=rbd,pool=p,image=i,node-name=n"], "rbd:p/i"),
        (["-blockdev", '{"driver":"raw","file":{"driver":"rbd","pool":"p","image":"i"}}'], "rbd:p/i"),
        (["-blockdev", "driver=nbd,server.type=unix,server.path=/run/x"], None),
        (["-drive", "driver=ssh,path=/remote,server.host=h"], None),
        (["-object", "memory-backend-file,id=m,mem-path=/nv.img,share=on,size=1G"], "/nv.img"),
        (["-object", "memory-backend-file,id=m,mem-path=/dev/shm/looking-glass,share=on,size=1G"], None),
        (["-object", '{"qom-type":"memory-backend-file","id":"m","mem-path":"/nv.img","share":true}'], "/nv.img"),
    ],
)
def test_what_the_arguments_open_is_found_however_deep(tmp_path: Path, values: list[str], place: str | None) -> None:
    root = parse_xml(f"<domain>{arguments(*values)}</domain>".replace('"', "&quot;"), "x")
    found = [use.place for use in uses(opened(tmp_path, domain_xml()), root, "one")]
    assert found == ([place] if place else [])


# What keeps nobody ----------------------------------------------------------------------------


def test_what_is_its_own_is_its_own(tmp_path: Path) -> None:
    """A chain that nobody else has; a sibling on the same base; a guest with images of its own."""
    base = create(tmp_path / "base.qcow2")
    middle = create(tmp_path / "middle.qcow2", base=base)
    top = create(tmp_path / "top.qcow2", base=middle)
    sibling = create(tmp_path / "sibling.qcow2", base=base)
    guest = mine(tmp_path, disk_xml(source=top), other(disk_xml(source=sibling), running=True))
    assert why(guest) == ""


def test_a_clone_is_started_beside_its_template_that_is_off(tmp_path: Path) -> None:
    base = create(tmp_path / "base.qcow2")
    clone = create(tmp_path / "clone.qcow2", base=base)
    assert why(mine(tmp_path, disk_xml(source=clone), other(disk_xml(source=base)))) == ""
    running = mine(tmp_path, disk_xml(source=clone), other(disk_xml(source=base), running=True))
    assert "two runs on its image" in why(running), "its base is being written to"


@pytest.mark.parametrize(
    ("inner", "theirs", "is_started"),
    [
        ("<shareable/>", "<shareable/>", True),
        ("<shareable/>", "<readonly/>", True),
        ("<shareable/>", "", False),
        ("", "<shareable/>", False),
        ("<readonly/>", "", True),
        ("<transient/>", "", True),
    ],
)
def test_what_is_shared_on_purpose_or_only_read_is_opened(
    tmp_path: Path, inner: str, theirs: str, *, is_started: bool
) -> None:
    image = create(tmp_path / "a.img", kind="raw")
    own = disk_xml("vdb", source=create(tmp_path / "own.qcow2"))
    guest = mine(tmp_path, own + raw("vda", image, inner=inner), other(raw("vda", image, inner=theirs)))
    assert (why(guest) == "") is is_started, why(guest)


def test_a_shared_image_that_somebody_stands_on_is_not_opened(tmp_path: Path) -> None:
    base = create(tmp_path / "a.img", kind="raw")
    clone = create(tmp_path / "clone.qcow2", base=base, base_kind="raw")
    guest = mine(tmp_path, raw("vda", base, inner="<shareable/>"), other(disk_xml(source=clone)))
    assert "below an overlay" in why(guest)


def test_a_cdrom_that_all_read_keeps_nobody(tmp_path: Path) -> None:
    iso = create(tmp_path / "debian.iso", kind="raw")
    cdrom = raw("sda", iso, bus="sata", device="cdrom")
    guest = mine(
        tmp_path,
        disk_xml(source=create(tmp_path / "a.qcow2")) + cdrom,
        other(cdrom, running=True),
        other(cdrom, name="c"),
    )
    assert why(guest) == ""


def test_what_is_written_into_a_raw_disk_leads_nowhere(tmp_path: Path) -> None:
    """A guest may write any header into its raw disk."""
    image = create(tmp_path / "a.qcow2")
    forged = create(tmp_path / "forged.img", base=image)
    assert why(mine(tmp_path, disk_xml(source=image), other(raw("vda", forged)))) == ""


# Where nobody can tell ------------------------------------------------------------------------


def test_an_image_that_is_not_there_is_not_opened(tmp_path: Path) -> None:
    gone = mine(tmp_path, disk_xml(source=str(tmp_path / "gone.qcow2")))
    assert why(gone).endswith("gone.qcow2 (vda): it is not there")


def test_a_header_that_cannot_be_read_is_no_answer(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    broken = tmp_path / "broken.qcow2"
    broken.write_bytes(b"QFI\xfb\0\0\0\x09" + bytes(200))
    theirs = mine(tmp_path, disk_xml(source=image), other(disk_xml(source=str(broken))))
    assert "reclaim cannot find out whether the guest two (vda) depends on one of its images" in why(theirs)
    own = mine(tmp_path, disk_xml(source=str(broken)))
    assert "reclaim cannot find the backing files of" in why(own)


def test_what_may_not_be_mounted_is_no_answer_and_what_is_gone_is(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    (tmp_path / "nfs").mkdir()
    away = mine(tmp_path, disk_xml(source=image), other(disk_xml(source=str(tmp_path / "nfs/clone.qcow2"))))
    assert "nor anything else in its folder" in why(away)
    gone = mine(tmp_path, disk_xml(source=image), other(disk_xml(source=str(tmp_path / "gone.qcow2"))))
    assert why(gone) == ""


def test_chains_that_lead_back_or_nowhere_end(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    one = create(tmp_path / "1.qcow2", base=tmp_path / "2.qcow2")
    create(tmp_path / "2.qcow2", base=one)
    guest = mine(tmp_path, disk_xml(source=image), other(disk_xml(source=one)))
    assert "more than 64 images are in its backing chain" in why(guest)


def test_a_hypervisor_that_does_not_answer_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = mine(tmp_path, disk_xml(source=create(tmp_path / "a.qcow2")))
    monkeypatch.setattr("reclaim.storage.image_users._LOOK", "exit 3")
    assert (
        why(guest) == "reclaim cannot find out who else uses its images: looking at the images of all guests: status 3"
    )


# What else opens an image for writing ---------------------------------------------------------


@pytest.mark.parametrize("kind", [ImageAmend, Sparsify])
def test_from_outside_it_is_asked_as_well(tmp_path: Path, kind: type) -> None:
    base = create(tmp_path / "base.qcow2")
    clone = create(tmp_path / "clone.qcow2", base=base)
    change = ImageAmend("one", base) if kind is ImageAmend else Sparsify("one", base, "qcow2")
    alone = mine(tmp_path, disk_xml(source=base))
    assert preconditions.why_not_applied(alone, change) is None
    taken = mine(tmp_path, disk_xml(source=base), other(disk_xml(source=clone)))
    assert f"the guest two uses {base}" in str(preconditions.why_not_applied(taken, change))


# A whole visit --------------------------------------------------------------------------------


@pytest.mark.parametrize("running", [False, True])
def test_a_visit_starts_no_template(tmp_path: Path, *, running: bool) -> None:
    base = create(tmp_path / "base.qcow2")
    clone = create(tmp_path / "clone.qcow2", base=base)
    guest: InhabitedGuest = inhabited(tmp_path, Inside(), disk_xml(source=base), CHANNEL, running=False)
    guest.answers |= {"guest-ping": dict, "guest-shutdown": guest.domain.destroy}
    guest.hypervisor.connection.defineXML(other(disk_xml(source=clone)))
    if running:
        guest.hypervisor.connection.lookupByName("two").create()
    run = engine(guest.hypervisor, tmp_path, "fix", force=True)
    run.boot_stopped = True
    run.visit(guest)
    assert not guest.domain.isActive()
    assert f"the guest two uses {base} (vda), below an overlay (vda)" in guest.unstarted
    assert not run.journal.path.exists()
    guest.hypervisor.connection.lookupByName("two").destroy() if running else None
    guest.hypervisor.connection.lookupByName("two").undefine()
    guest.unstarted = ""
    guest.within.commands["systemctl is-system-running"] = lambda _: 0
    run.visit(guest)
    assert guest.domain.isActive(), "nobody stands on it any more"
    run.leave(guest)
    assert not guest.domain.isActive()


# Headers --------------------------------------------------------------------------------------


def test_an_overlay_whose_base_is_not_understood_keeps_others_from_being_opened(tmp_path: Path) -> None:
    base = create(tmp_path / "base.img", kind="raw")
    clone = create(tmp_path / "clone.qcow2", base='json:{"driver":"of-tomorrow","place":"/b"}', base_kind="raw")
    said = why(mine(tmp_path, raw("vda", base), other(disk_xml(source=clone))))
    assert "reclaim cannot find out whether the guest two (vda) depends on one of its images" in said
    assert "of-tomorrow" in said


def test_a_base_below_a_quorum_is_found(tmp_path: Path) -> None:
    base = create(tmp_path / "base.img", kind="raw")
    name = f'json:{{"driver":"quorum","vote-threshold":1,"children":[{{"driver":"file","filename":"{base}"}}]}}'
    clone = create(tmp_path / "clone.qcow2", base=name, base_kind="raw")
    assert "the guest two uses" in why(mine(tmp_path, raw("vda", base), other(disk_xml(source=clone))))


def test_every_place_is_asked_for_once(tmp_path: Path) -> None:
    hypervisor = opened(tmp_path, domain_xml(disk_xml()))
    images = [create(tmp_path / f"{number}.qcow2") for number in range(3)]
    found, unclear = Chains(hypervisor).follow(Use("a", "vda", image, "qcow2", writes=True) for image in images * 50)
    assert (len(found), unclear) == (3, [])


# Who uses a file ------------------------------------------------------------------------------


def names(folder: Path, path: str | Path, *domains: str) -> set[str]:
    """The guests among *domains* that use the file at *path*."""
    hypervisor = opened(folder, *domains)
    return {use.guest for use in users_of(hypervisor, Path(path).stat())}


@pytest.mark.parametrize("how", ["path", "symlink", "hard link", "folder"])
def test_a_file_is_its_guests_by_whatever_path(tmp_path: Path, how: str) -> None:
    image, path = create(tmp_path / "a.qcow2"), tmp_path / "b.qcow2"
    if how == "symlink":
        path.symlink_to(image)
    elif how == "hard link":
        os.link(image, path)
    elif how == "folder":
        (tmp_path / "link").symlink_to(tmp_path)
        path = tmp_path / "link/a.qcow2"
    else:
        path = Path(image)
    copy = create(tmp_path / "copy.qcow2")
    assert names(tmp_path, image, other(disk_xml(source=str(path)))) == {"two"}
    assert names(tmp_path, copy, other(disk_xml(source=str(path)))) == set()


@pytest.mark.parametrize("is_known", [True, False])
def test_a_volume_of_a_pool_is_its_guests(tmp_path: Path, *, is_known: bool) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    pool = f"<pool type='dir'><name>images</name><target><path>{tmp_path}</path></target></pool>"
    made = hypervisor.connection.storagePoolCreateXML(pool, 0)
    if is_known:
        made.createXML(
            "<volume><name>a.qcow2</name><capacity>1</capacity><target><format type='qcow2'/></target></volume>", 0
        )
    hypervisor.connection.defineXML(other(volume("images", "a.qcow2")))
    assert {use.guest for use in users_of(hypervisor, Path(image).stat())} == {"two"}


@pytest.mark.parametrize(
    "name", ["BASE", "file:BASE", 'json:{"driver":"qcow2","file":{"driver":"file","filename":"BASE"}}']
)
def test_every_image_of_a_chain_is_its_guests(tmp_path: Path, name: str) -> None:
    base = create(tmp_path / "base.qcow2")
    middle = create(tmp_path / "middle.qcow2", base=name.replace("BASE", base))
    top = create(tmp_path / "top.qcow2", base=middle)
    for image in (base, middle, top):
        assert names(tmp_path, image, other(disk_xml(source=top))) == {"two"}


def test_a_chain_below_a_mirror_is_its_guests(tmp_path: Path) -> None:
    base, image = create(tmp_path / "base.raw", kind="raw"), create(tmp_path / "a.qcow2")
    store = f"<backingStore type='file'><format type='raw'/><source file='{base}'/></backingStore>"
    mirror = f"<mirror type='file'><format type='qcow2'/><source file='{tmp_path}/new'/>{store}</mirror>"
    root = parse_xml(other(disk_xml(source=image, inner=mirror)), "two")
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    assert {use.place for use in uses(hypervisor, root, "two")} >= {image, base, f"{tmp_path}/new"}


def test_a_transient_guest_uses_its_image(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    hypervisor.connection.createXML(other(disk_xml(source=image)), 0)
    assert [(use.guest, use.runs) for use in users_of(hypervisor, Path(image).stat())] == [("two", True)]


def test_a_guest_that_was_defined_since_uses_its_image_and_one_that_is_gone_none(tmp_path: Path) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    status = Path(image).stat()
    domain = hypervisor.connection.defineXML(other(disk_xml(source=image)))
    assert [use.guest for use in users_of(hypervisor, status)] == ["two"]
    domain.undefine()
    assert [use.guest for use in users_of(hypervisor, status, lately=True)] == ["two"]
    assert users_of(hypervisor, status) == []


def test_a_guest_that_vanishes_while_it_is_read_uses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, other(disk_xml(source=image)), other(disk_xml(source=image), name="three"))
    read = libvirt.virDomain.XMLDesc

    def vanishing(domain: libvirt.virDomain, flags: int) -> str:
        if domain.name() == "three":
            domain.undefine()
        return str(read(domain, flags))

    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", vanishing)
    assert {use.guest for use in users_of(hypervisor, Path(image).stat())} == {"two"}


def test_a_definition_that_libvirt_does_not_give_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, other(disk_xml(source=image)))

    def failing(_domain: libvirt.virDomain, _flags: int) -> str:
        error = libvirt.libvirtError("failed")
        error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, "failed", 0, "", None, None, 0, 0)
        raise error

    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", failing)
    with pytest.raises(libvirt.libvirtError):
        users_of(hypervisor, Path(image).stat())


def test_a_look_that_fails_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = create(tmp_path / "a.qcow2")
    hypervisor = opened(tmp_path, other(disk_xml(source=image)))
    monkeypatch.setattr("reclaim.storage.image_users._LOOK", "exit 3")
    with pytest.raises(ProbeError, match="looking at the images of all guests"):
        users_of(hypervisor, Path(image).stat())


@pytest.mark.parametrize("tag", ["kernel", "initrd", "loader", "nvram"])
def test_a_guest_uses_the_files_that_it_is_started_from(tmp_path: Path, tag: str) -> None:
    path = create(tmp_path / "file", kind="raw")
    domain = parse_xml(f"<domain><os><type>hvm</type><{tag}>{path}</{tag}></os><devices/></domain>", "two")
    hypervisor = opened(tmp_path, domain_xml(disk_xml(), running=False))
    assert [use.place for use in uses(hypervisor, domain, "two")] == [path]


def test_a_kernel_that_cannot_be_looked_at_keeps_no_guest_from_a_start(tmp_path: Path) -> None:
    kernel = Use("two", "kernel", "/loop", "raw", writes=False, boots=True)
    chains = Chains(opened(tmp_path, domain_xml(disk_xml(), running=False)))
    chains.nodes["/loop"] = image_users.Layer(problem="/loop: Too many levels of symbolic links")
    assert chains.follow([kernel])[1] == []
    assert chains.follow([Use("two", "vda", "/loop", "raw", writes=False)])[1] != []


# Devices --------------------------------------------------------------------------------------


_LOOK = image_users._LOOK


@dataclass
class Devices:
    """Block devices that are nodes and a sysfs of their own: nobody opens them."""

    folder: Path
    mounts: list[str] = field(default_factory=list)

    def add(self, name: str, number: str, *, inside: str = "", slaves: tuple[str, ...] = ()) -> str:
        """The device *name*: a partition of the disk *inside*, or one that lies on *slaves*. Returns its node."""
        sys = self.folder / "sys/block" / inside / name
        (sys / "slaves").mkdir(parents=True)
        (sys / "holders").mkdir()
        (sys / "dev").write_text(f"{number}\n", encoding="ascii")
        if inside:
            (sys / "partition").write_text("1\n", encoding="ascii")
        for slave in slaves:
            below = next((self.folder / "sys/block").rglob(f"{slave}/dev")).parent
            (sys / "slaves" / slave).symlink_to(below)
            (below / "holders" / name).symlink_to(sys)
        numbers = self.folder / "sys/dev/block"
        numbers.mkdir(parents=True, exist_ok=True)
        (numbers / number).symlink_to(sys)
        return self.node(name, number)

    def node(self, name: str, number: str) -> str:
        path = self.folder / "dev" / name
        path.parent.mkdir(exist_ok=True)
        major, minor = map(int, number.split(":"))
        os.mknod(path, 0o600 | stat.S_IFBLK, os.makedev(major, minor))
        return str(path)

    @property
    def script(self) -> str:
        (self.folder / "mountinfo").write_text(
            "".join(f"36 35 {one} / /m rw - ext4 x rw\n" for one in self.mounts), encoding="ascii"
        )
        own = _LOOK.replace("/sys/", f"{self.folder}/sys/")
        return own.replace("/proc/self/mountinfo", f"{self.folder}/mountinfo")


@pytest.fixture
def devices(tmp_path: Path) -> Devices:
    if os.geteuid() != 0:
        pytest.skip("only root makes device nodes")
    return Devices(tmp_path / "host")


def block(node: str) -> str:
    source = f"<driver name='qemu' type='raw'/><source dev='{node}'/><target dev='vda' bus='virtio'/>"
    return f"<disk type='block' device='disk'>{source}</disk>"


def asked(folder: Path, devices: Devices, patch: pytest.MonkeyPatch, own: str, theirs: str = "") -> str:
    patch.setattr(image_users, "_LOOK", devices.script)
    return why(mine(folder, block(own), *([other(block(theirs))] if theirs else [])))


@pytest.mark.slow
def test_devices_are_told_by_their_numbers(tmp_path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logical volume has many names; a disk has its partitions in it, and volumes on it."""
    (tmp_path / "host").mkdir()
    disk = devices.add("sdq", "8:240")
    one, two = (devices.add(f"sdq{number}", f"8:24{number}", inside="sdq") for number in (1, 2))
    pv = devices.add("sdr", "8:250")
    volume = devices.add("dm-7", "253:7", slaves=("sdr",))
    sibling = devices.add("dm-8", "253:8", slaves=("sdr",))
    same = devices.node("vg0-web", "253:7")
    for own, theirs, is_taken in (
        (volume, same, True),
        (volume, sibling, False),
        (disk, one, True),
        (one, disk, True),
        (one, two, False),
        (pv, volume, True),
        (volume, pv, True),
    ):
        said = asked(tmp_path, devices, monkeypatch, own, theirs)
        assert ("the guest two" in said) is is_taken, (own, theirs, said)
    assert asked(tmp_path, devices, monkeypatch, pv) == f"the host itself uses {pv} (vda): dm-7, dm-8"
    assert not asked(tmp_path, devices, monkeypatch, volume)


@pytest.mark.slow
def test_a_disk_of_the_host_is_the_same_by_each_of_its_ways(
    tmp_path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handed on as a SCSI device, by a second path to a LUN, mapped by the kernel and opened by QEMU itself."""
    (tmp_path / "host").mkdir()
    first, second, third = (devices.add(f"sd{letter}", f"8:24{number}") for number, letter in enumerate("qrs"))
    mapped = devices.add("rbd0", "252:0")
    sys = tmp_path / "host/sys"
    for name, wwid in (("sdq", "naa.1"), ("sdr", "naa.1"), ("sds", "t10.ATA QEMU")):
        place = sys / f"devices/session7/target2:0:0/2:0:0:{'qrs'.index(name[2])}"
        (place / "block" / name).mkdir(parents=True)
        (place / "wwid").write_text(f"{wwid}\n", encoding="ascii")
        (sys / "block" / name / "device").symlink_to(place)
        (sys / "bus/scsi/devices").mkdir(parents=True, exist_ok=True)
        (sys / "bus/scsi/devices" / place.name).symlink_to(place)
    (sys / "class/iscsi_session/session7").mkdir(parents=True)
    (sys / "class/iscsi_session/session7/targetname").write_text("iqn.2001-04.org.example:a\n", encoding="ascii")
    (sys / "bus/rbd/devices/0").mkdir(parents=True)
    for name, text in (("pool", "p"), ("pool_ns", ""), ("name", "i")):
        (sys / "bus/rbd/devices/0" / name).write_text(f"{text}\n", encoding="ascii")
    for own, theirs, is_taken in (
        (block(first), scsi_device("scsi_host2", 0), True),
        (block(first), scsi_device("scsi_host2", 2), False),
        (block(first), block(second), True),
        (block(first), block(third), False),
        (block(first), network("iscsi", "iqn.2001-04.org.example:a/0"), True),
        (network("iscsi", "iqn.2001-04.org.example:a/0"), block(first), True),
        (block(first), network("iscsi", "iqn.2001-04.org.example:a/2"), False),
        (block(mapped), network("rbd", "p/i"), True),
        (network("rbd", "p/i"), block(mapped), True),
        (network("rbd", "p/n"), block(mapped), False),
        (network("iscsi", "iqn.x/1"), iscsi_device("iqn.x/1"), True),
    ):
        monkeypatch.setattr(image_users, "_LOOK", devices.script.replace("/dev/${", f"{tmp_path}/host/dev/${{"))
        monkeypatch.setattr(image_users, "_SCSI", f"{sys}/bus/scsi/devices/")
        said = why(mine(tmp_path, own, other(theirs, running=True)))
        assert ("two" in said) is is_taken, (own, theirs, said)


def network(protocol: str, name: str) -> str:
    source = f"<source protocol='{protocol}' name='{name}'><host name='h' port='3260'/></source>"
    driver = "<driver name='qemu' type='raw'/>"
    return f"<disk type='network' device='disk'>{driver}{source}<target dev='vda' bus='virtio'/></disk>"


def scsi_device(adapter: str, unit: int) -> str:
    source = f"<source><adapter name='{adapter}'/><address bus='0' target='0' unit='{unit}'/></source>"
    return f"<hostdev mode='subsystem' type='scsi'>{source}</hostdev>"


def iscsi_device(name: str) -> str:
    source = f"<source protocol='iscsi' name='{name}'><host name='h' port='3260'/></source>"
    return f"<hostdev mode='subsystem' type='scsi'>{source}</hostdev>"


def test_what_the_host_has_mounted_is_its_own(
    tmp_path: Path, devices: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host").mkdir()
    disk = devices.add("sdq", "8:240")
    one, two = (devices.add(f"sdq{number}", f"8:24{number}", inside="sdq") for number in (1, 2))
    devices.mounts.append("8:241")
    assert asked(tmp_path, devices, monkeypatch, disk) == f"the host itself uses {disk} (vda): it is mounted there"
    assert "it is mounted there" in asked(tmp_path, devices, monkeypatch, one)
    assert not asked(tmp_path, devices, monkeypatch, two)
