"""Which images a command copies: disks of guests, snapshots and copies of them, and those that only may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from reclaim.jobs.calls import Call
from reclaim.jobs.images import Copied, DiskImage, Map, plain_device
from reclaim.jobs.steps import Copy, Snapshot
from reclaim.jobs.words import UNKNOWN, Origin, Origins

CALL = Call((), 1)
WEB = DiskImage("/images/web.qcow2", "web", "web", "vda", "uuid-of-web")
DB = DiskImage("/images/db.img", None, "db", "vda", "uuid-of-db")
MAIL = DiskImage("/dev/vg/mail", None, "mail", "vda", "uuid-of-mail")


def a_map(*images: DiskImage, origins: Origins | None = None) -> Map:
    return Map(list(images or (WEB, DB, MAIL)), origins or Origins())


def copy_of(*sources: str, tool: str = "cp", reads_devices: bool = True, of_guest: str | None = None) -> Copy:
    return Copy(CALL, tool, sources, "/b/", reads_devices=reads_devices, of_guest=of_guest)


def below(where: Map, copy: Copy, *, node_is_read: bool = False) -> Copied:
    return where.below(copy, lambda _tool: node_is_read)


def paths(copied: Copied) -> list[str]:
    return [found.image.path for found in copied.sure]


def snapshot(origin: str, path: str, *, still: bool = True) -> Snapshot:
    return Snapshot(CALL, origin, path, still)


# Paths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "images"),
    [
        ("/images/web.qcow2", [WEB]),
        ("/images//./web.qcow2", [WEB]),
        ("/images/../images/web.qcow2", [WEB]),
        ("/images", [WEB, DB]),
        ("/images/", [WEB, DB]),
        ("/images/.", [WEB, DB]),
        ("/", [WEB, DB]),
        ("/images/*", [WEB, DB]),
        ("/images/*.img", [DB]),
        ("/images/web.*", [WEB]),
        ("/images/?b.img", [DB]),
        ("/images/[wd]*", [WEB, DB]),
        ("/im*", [WEB, DB]),
        ("/*/db.img", [DB]),
        ("/*", [WEB, DB]),
        ("/dev/vg/mail", [MAIL]),
        ("/dev/mapper/vg-mail", [MAIL]),
        ("/image", []),
        ("/images/web.qcow", []),
        ("/images/web.qcow2/x", []),
        ("/images/*/x", []),
        ("/other", []),
    ],
)
def test_images_at_or_below_a_path(source: str, images: list[DiskImage]) -> None:
    copied = below(a_map(), copy_of(source))
    assert paths(copied) == [image.path for image in images]
    assert {found.source for found in copied.sure} <= {plain_device(source)}
    assert (copied.doubt, copied.surely) == ("", bool(images))
    assert not any(found.still for found in copied.sure)


@pytest.mark.parametrize(
    ("source", "reads_devices", "node_is_read", "is_copied"),
    [
        ("/dev/vg/mail", True, False, True),
        ("/dev/vg/mail", False, False, False),
        ("/dev/vg", True, False, False),
        ("/dev/vg", True, True, True),
        ("/dev/vg", False, True, False),
    ],
)
def test_of_a_device_the_node_may_be_copied_alone(
    source: str,
    reads_devices: bool,  # noqa: FBT001
    node_is_read: bool,  # noqa: FBT001
    is_copied: bool,  # noqa: FBT001
) -> None:
    copied = below(a_map(), copy_of(source, reads_devices=reads_devices), node_is_read=node_is_read)
    assert (copied.sure != []) is is_copied


def test_files_below_a_folder_need_no_device_to_be_read() -> None:
    assert paths(below(a_map(), copy_of("/images", reads_devices=False))) == [WEB.path, DB.path]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("/dev/mapper/vg-mail", "/dev/vg/mail"),
        ("/dev/mapper/my--vg-my--mail", "/dev/my-vg/my-mail"),
        ("/dev/mapper/mail", "/dev/mapper/mail"),
        ("/dev/mapper/a-b-c", "/dev/mapper/a-b-c"),
        ("/dev/mapper/vg-mail/x", "/dev/mapper/vg-mail/x"),
        ("/dev/vg/mail", "/dev/vg/mail"),
        ("/images/a-b", "/images/a-b"),
    ],
)
def test_a_logical_volume_has_one_name_here(name: str, plain: str) -> None:
    assert plain_device(name) == plain


def test_an_image_is_known_by_either_name_of_its_volume() -> None:
    (image,) = a_map(DiskImage("/dev/mapper/vg-my--mail")).images
    assert image.path == "/dev/vg/my-mail"


@pytest.mark.parametrize(("name", "is_its"), [("web", True), ("uuid-of-web", True), ("db", False), ("", False)])
def test_an_image_is_of_a_guest_by_name_or_uuid(name: str, *, is_its: bool) -> None:
    assert WEB.is_of(name) is is_its


def test_an_image_without_a_guest_is_of_none() -> None:
    assert not DiskImage("/x").is_of("")


# Images that are left out ---------------------------------------------------------------------


def leaving(answer: bool | None, path: str = "") -> Callable[[str, str], bool | None]:  # noqa: FBT001
    return lambda _source, named: answer if path in named else False


def test_an_image_that_a_command_leaves_out_is_not_copied() -> None:
    copy = replace(copy_of("/images"), skips=leaving(True, "web"))
    copied = below(a_map(), copy)
    assert paths(copied) == [DB.path]
    assert not copied.maybe_left_out


def test_an_image_that_may_be_left_out_is_told_and_not_sure() -> None:
    copied = below(a_map(), replace(copy_of("/images"), skips=leaving(None, "web")))
    assert copied.maybe_left_out
    assert WEB.path not in paths(copied)


def test_a_file_that_is_named_is_asked_about_by_that_name() -> None:
    asked: list[tuple[str, str]] = []

    def skips(source: str, path: str) -> bool:
        asked.append((source, path))
        return False

    below(a_map(WEB), replace(copy_of("/images/*.qcow2", "/images"), skips=skips))
    assert asked == [("/images/*.qcow2", "/images/*.qcow2"), ("/images", WEB.path)]


# Values that are not known --------------------------------------------------------------------


def test_a_path_that_is_not_known_is_a_doubt_and_no_image() -> None:
    for source in (UNKNOWN, f"{UNKNOWN}/images", "images"):
        copied = below(a_map(), copy_of(source))
        assert copied.sure == []
        assert copied.doubt


def test_a_path_that_may_be_an_image_is_a_doubt_and_another_is_not() -> None:
    for source in (f"/images/{UNKNOWN}", f"/images/{UNKNOWN}.img", f"/{UNKNOWN}", f"/{UNKNOWN}/db.img"):
        copied = below(a_map(), copy_of(source))
        assert (copied.sure, bool(copied.doubt), copied.of_guests) == ([], True, [])
    for source in (f"/etc/{UNKNOWN}", f"/images/{UNKNOWN}.iso", f"/images/x{UNKNOWN}", f"{UNKNOWN}"[:0] + "/etc"):
        copied = below(a_map(), copy_of(source))
        assert (copied.sure, copied.doubt) == ([], "")


def test_a_path_that_is_named_after_a_guest_is_an_image_of_that() -> None:
    origins = Origins()
    mark = origins.mark(Origin("guest", every=True))
    copied = below(a_map(origins=origins), copy_of(f"/images/{mark}.qcow2", f"/images/{mark}.img"))
    assert (copied.of_guests, copied.doubt, copied.surely) == ([mark], "", True)
    other = origins.mark()
    assert below(a_map(origins=origins), copy_of(f"/images/{other}.qcow2")).of_guests == []


def test_the_disks_that_a_guest_names() -> None:
    origins = Origins()
    first = origins.mark(Origin("image", guest="web", after=2))
    second = origins.mark(Origin("image", guest="uuid-of-db", after=1))
    copied = below(a_map(origins=origins), copy_of(first, second))
    assert paths(copied) == [WEB.path, DB.path]
    assert copied.asked_after == 2
    stranger = origins.mark(Origin("image", guest="other"))
    copied = below(a_map(origins=origins), copy_of(stranger))
    assert (copied.sure, copied.of_guests, copied.asked_after) == ([], ["other"], 0)
    assert below(a_map(), copy_of("/images")).asked_after is None


@pytest.mark.parametrize(
    ("path", "name", "images"),
    [
        ("/images", "*", [WEB, DB]),
        ("/images", "*.img", [DB]),
        ("/images", "*.[iI][mM][gG]", [DB]),
        ("/images", "images", []),
        ("/etc", "*", []),
    ],
)
def test_the_files_that_find_finds(path: str, name: str, images: list[DiskImage]) -> None:
    origins = Origins()
    mark = origins.mark(Origin("found", path=path, name=name))
    copied = below(a_map(origins=origins), copy_of(mark))
    assert paths(copied) == [image.path for image in images]
    assert copied.doubt == ""


def test_files_that_are_found_in_a_place_that_is_not_known_are_a_doubt() -> None:
    origins = Origins()
    mark = origins.mark(Origin("found", path=UNKNOWN))
    copied = below(a_map(origins=origins), copy_of(mark))
    assert (copied.sure, bool(copied.doubt)) == ([], True)


def test_a_copy_of_a_guest_by_its_name() -> None:
    assert paths(below(a_map(), copy_of(of_guest="web"))) == [WEB.path]
    copied = below(a_map(), copy_of(of_guest="other"))
    assert (copied.sure, copied.of_guests) == ([], ["other"])


def test_a_volume_is_known_by_the_name_of_its_file() -> None:
    assert paths(below(a_map(), copy_of("volume:web.qcow2"))) == [WEB.path]
    copied = below(a_map(), copy_of("volume:other"))
    assert (copied.sure, bool(copied.doubt)) == ([], True)


def test_the_first_doubt_stays() -> None:
    copied = Copied()
    assert not copied.surely
    copied.wonder("first")
    copied.wonder("second")
    assert copied.doubt == "first"


def test_where_no_image_is_known_nothing_is_sure() -> None:
    copied = Map([], Origins()).below(copy_of("/etc"), lambda _: False)
    assert (copied.sure, bool(copied.doubt)) == ([], True)


@pytest.mark.parametrize(
    ("source", "may_be_image"),
    [
        ("kvm1:/x/web.qcow2", True),
        ("kvm1:/x/web.IMG", True),
        ("kvm1:/x/web.vhdx/", True),
        ("kvm1:/var/lib/libvirt/images", True),
        ("kvm1:/images", True),
        ("kvm1:/images/*", True),
        (f"kvm1:/x/{UNKNOWN}", True),
        ("kvm1:/etc", False),
        ("kvm1:x", False),
    ],
)
def test_what_lies_on_another_machine_is_a_doubt(source: str, *, may_be_image: bool) -> None:
    copied = below(a_map(), copy_of(source))
    assert copied.sure == []
    assert ("guests" in copied.doubt) is may_be_image
    assert copied.doubt


# Snapshots and copies -------------------------------------------------------------------------


def still_ones(where: Map, source: str) -> list[tuple[str, bool]]:
    return [(found.image.path, found.still) for found in below(where, copy_of(source)).sure]


@pytest.mark.parametrize(
    ("source", "is_there"),
    [
        ("/snap/web.qcow2", True),
        ("/snap", True),
        ("/snap/", True),
        ("/snap/other", False),
        ("/snapshot/web.qcow2", False),
    ],
)
def test_a_snapshot_holds_the_images_of_its_origin(source: str, *, is_there: bool) -> None:
    where = a_map(WEB)
    where.take(snapshot("/images/", "/snap/"))
    assert still_ones(where, source) == ([(WEB.path, True)] if is_there else [])


def test_another_name_of_a_folder_is_of_no_one_moment() -> None:
    where = a_map(WEB)
    where.take(snapshot("/images", "/mnt", still=False))
    assert still_ones(where, "/mnt/web.qcow2") == [(WEB.path, False)]
    where.take(snapshot("/mnt", "/snap"))
    assert still_ones(where, "/snap") == [(WEB.path, True)]


@pytest.mark.parametrize("source", ["/whole/images/web.qcow2", "/whole/images", "/whole/", "/whole"])
def test_a_snapshot_of_the_whole_filesystem_holds_all_of_it(source: str) -> None:
    where = a_map(WEB)
    where.take(snapshot("/", "/whole"))
    assert still_ones(where, source) == [(WEB.path, True)]


def test_the_newest_snapshot_of_a_place_counts() -> None:
    where = a_map(WEB, DB)
    where.take(snapshot("/images/db.img", "/snap"))
    where.take(snapshot("/images/web.qcow2", "/snap"))
    assert still_ones(where, "/snap") == [(WEB.path, True)]


def test_a_volume_and_its_snapshot() -> None:
    where = a_map(MAIL)
    where.take(snapshot("/dev/vg/mail", "/dev/mapper/vg-snap"))
    assert still_ones(where, "/dev/vg/snap") == [(MAIL.path, True)]


@pytest.mark.parametrize(
    ("source", "images"),
    [
        ("/images/.snapshots/12/snapshot", [WEB]),
        ("/images/.snapshots/12/snapshot/web.qcow2", [WEB]),
        ("/.snapshots/12/snapshot/images", [WEB]),
        ("/.snapshots/12/snapshot", [WEB]),
        ("/images/.zfs/snapshot/daily/web.qcow2", [WEB]),
        ("/images/.zfs/snapshot/daily/other", []),
        ("/images/.snapshots/12/other", []),
    ],
)
def test_the_folders_of_snapshots_are_known_by_their_names(source: str, images: list[DiskImage]) -> None:
    assert still_ones(a_map(WEB), source) == [(image.path, True) for image in images]


def test_a_snapshot_of_something_unknown_may_hold_images() -> None:
    where = a_map(WEB)
    where.take(snapshot(UNKNOWN, "/snap"))
    copied = below(where, copy_of("/snap/web.qcow2"))
    assert (copied.sure, bool(copied.doubt)) == ([], True)
    where.take(snapshot("/dev/vg/pool", "/mnt", still=False))
    copied = below(where, copy_of("/mnt"))
    assert (copied.sure, bool(copied.doubt)) == ([], True)


def test_snapshots_that_lead_round_in_a_circle_come_to_an_end() -> None:
    where = a_map(WEB)
    where.take(snapshot("/a", "/c"))
    where.take(snapshot("/c", "/a"))
    assert below(where, copy_of("/a/x")).sure == []


def test_a_snapshot_without_a_place_is_none_and_many_are_not_all_kept() -> None:
    where = a_map(WEB)
    where.take(snapshot("/images", ""))
    assert where.snapshots == []
    for number in range(1000):
        where.take(snapshot("/images", f"/snap{number}"))
    assert len(where.snapshots) == 500


@pytest.mark.parametrize("target", ["/b/web.qcow2", "/b/", "/b"])
def test_a_copy_that_the_job_made_is_copied_on(target: str) -> None:
    where = a_map(WEB)
    where.copied_to(target, below(where, copy_of(WEB.path)))
    (found,) = below(where, copy_of("/b")).sure
    assert (found.image, found.still) == (DiskImage(WEB.path, None, "web", "vda"), True)
    assert below(where, copy_of("/c")).sure == []


@pytest.mark.parametrize("target", ["", UNKNOWN, f"{UNKNOWN}/b", "kvm2:/b"])
def test_a_copy_that_lies_elsewhere_is_not_copied_on(target: str) -> None:
    where = a_map(WEB)
    where.copied_to(target, below(where, copy_of(WEB.path)))
    assert where.copies == []


def test_a_copy_of_a_guest_that_is_not_known_may_be_copied_on() -> None:
    where = a_map(WEB)
    where.copied_to("/b", below(where, copy_of(of_guest="other")))
    assert where.copies == [("/b", None)]
    assert below(where, copy_of("/b")).sure == []
    assert below(where, copy_of(f"/b{UNKNOWN}")).doubt


def test_copies_without_end_are_not_all_kept() -> None:
    where = a_map(WEB)
    copied = below(where, copy_of(WEB.path))
    for number in range(500):
        where.copied_to(f"/b/{number}", copied)
    assert len(where.copies) == 201
    assert len(below(where, copy_of("/b")).sure) == 20
