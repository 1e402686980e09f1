"""Machine types: what can be ordered is ordered by number, and nothing else is."""

from __future__ import annotations

import pytest

from reclaim.definition.machine_type import (
    OfferedMachine,
    end_of,
    has_no_version,
    parse,
    successor,
    why_not_offered,
    written,
)


def _offered(*names: str, deprecated: tuple[str, ...] = ()) -> list[OfferedMachine]:
    return [OfferedMachine(name, name in deprecated) for name in names]


@pytest.mark.parametrize(
    ("name", "family", "version", "vendor"),
    [
        ("pc-i440fx-2.10", "pc-i440fx", (2, 10), ""),
        ("pc-i440fx-1.4", "pc-i440fx", (1, 4), ""),
        ("pc-1.3", "pc-i440fx", (1, 3), ""),
        ("pc-0.12", "pc-i440fx", (0, 12), ""),
        ("pc-q35-10.0", "pc-q35", (10, 0), ""),
        ("pc-q35-4.0.1", "pc-q35", (4, 0, 1), ""),
        ("virt-8.1", "virt", (8, 1), ""),
        ("pseries-3.1", "pseries", (3, 1), ""),
        ("s390-ccw-virtio-7.2", "s390-ccw-virtio", (7, 2), ""),
        ("pc-i440fx-rhel7.0.0", "pc-i440fx", (1, 5), "rhel"),
        ("pc-q35-rhel9.4.0", "pc-q35", (8, 2), "rhel"),
        ("virt-rhel8.2.0", "virt", (4, 2), "rhel"),
        ("pc-i440fx-trusty", "pc-i440fx", (2, 0), "ubuntu"),
        ("pc-q35-focal", "pc-q35", (4, 0), "ubuntu"),
        ("pc-q35-rhel10.2.0", "pc-q35", (10, 1), "rhel"),
        ("pc-q35-rhel9.10.0", "pc-q35", (10, 1), "rhel"),
        ("pc-q35-rhel11.0.0", "pc-q35", (10, 1), "rhel"),
        ("pc-i440fx-rhel10.0.0", "pc-i440fx", (9, 1), "rhel"),
        ("pc-i440fx-resolute", "pc-i440fx", (10, 2), "ubuntu"),
        ("s390-ccw-virtio-resolute", "s390-ccw-virtio", (10, 2), "ubuntu"),
        ("pseries-bionic-sxxm", "pseries", (2, 11), "ubuntu"),
        ("pc-i440fx-5.2+pve0", "pc-i440fx", (5, 2), "pve"),
        ("pc-q35-9.2+pve1", "pc-q35", (9, 2), "pve"),
        ("pc-1.0-precise", "pc-i440fx", (1, 0), "ubuntu"),
        ("pc-i440fx-1.5-saucy", "pc-i440fx", (1, 5), "ubuntu"),
        ("pc-1.0-qemu-kvm", "pc-i440fx", (1, 0), "ubuntu"),
        ("rhel6.5.0", "pc-i440fx", (0, 12), "rhel"),
        ("rhel5.4.4", "pc-i440fx", (0, 12), "rhel"),
        ("pseries-2.12-sxxm", "pseries", (2, 12), ""),
        ("pseries-rhel7.6.0-sxxm", "pseries", (2, 12), "rhel"),
        ("microvm", "microvm", None, ""),
        ("ubuntu-q35", "pc-q35", None, ""),
        ("pc", "pc-i440fx", None, ""),
        ("q35", "pc-q35", None, ""),
        ("isapc", "isapc", None, ""),
    ],
)
def test_a_known_name_is_taken_apart(name: str, family: str, version: tuple[int, ...] | None, vendor: str) -> None:
    machine = parse(name)
    assert machine
    assert (machine.family, machine.version, machine.vendor) == (family, version, vendor)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("pc-i440fx-jammy-hpb", "-hpb"),
        ("pc-q35-noble-v2", ""),
        ("pc-q35-jammy-hpb-maxcpus", "-hpb-maxcpus"),
        ("pseries-bionic-sxxm", "-sxxm"),
        ("pc-q35-mantic-maxcpus", "-maxcpus"),
        ("pc-q35-jammy-maxcpus", "-maxcpus"),
        ("pc-q35-jammy", ""),
        ("pseries-2.12-sxxm", "-sxxm"),
        ("pseries-rhel7.6.0-sxxm", "-sxxm"),
        ("pc-q35-7.2", ""),
    ],
)
def test_what_ubuntu_adds_to_a_type_is_its_variant(name: str, variant: str | None) -> None:
    machine = parse(name)
    assert (machine and machine.variant) == variant


@pytest.mark.parametrize(
    "name",
    [
        "",
        "pc-2.1",
        "pc-i440fx",
        "pc-i440fx-",
        "pc-i440fx-2",
        "pc-i440fx-2.1\n",
        "pc-i440fx-2.1-custom",
        "pc-i440fx-rhel7.9.9",
        "rhel6.9.0",
        "rhel5.4",
        "pc-i440fx-plucky-x",
        "pc-q35-unknownname",
        "pc-q35-noble-v1",
        "pc-q35-noble-v2-hpb",
        "pc-q35-rhel9.7.0",
        "pc-q35-rhel8.8.0",
        "pc-i440fx-5.2+pve",
        "pc-i440fx-focal+pve0",
        "xenfv",
        "my-machine-2.9",
        "PC-I440FX-2.9",
        "pc-i440fx-٢.٩x",
    ],
)
def test_a_name_that_cannot_be_ordered_is_none(name: str) -> None:
    assert parse(name) is None


def test_versions_are_numbers_not_text() -> None:
    names = ["pc-i440fx-2.10", "pc-i440fx-2.9", "pc-i440fx-10.0", "pc-1.3", "pc-0.15"]
    versions = [machine.version for machine in map(parse, names) if machine and machine.version]
    assert sorted(versions) == [(0, 15), (1, 3), (2, 9), (2, 10), (10, 0)]
    assert list(map(written, sorted(versions))) == ["0.15", "1.3", "2.9", "2.10", "10.0"]


@pytest.mark.parametrize("name", ["pc", "q35", "virt", "pseries"])
def test_an_alias_says_so(name: str) -> None:
    machine = parse(name)
    assert machine
    assert machine.is_alias


@pytest.mark.parametrize("name", ["isapc", "pc-i440fx-2.9", "pc-i440fx-trusty"])
def test_others_are_no_alias(name: str) -> None:
    machine = parse(name)
    assert machine
    assert not machine.is_alias


@pytest.mark.parametrize(
    ("name", "offered", "newest"),
    [
        pytest.param("pc-1.3", _offered("pc-i440fx-2.9", "pc-i440fx-2.10"), "pc-i440fx-2.10", id="by-number"),
        pytest.param("pc-i440fx-1.6", _offered("pc-q35-9.0", "pc-i440fx-2.9"), "pc-i440fx-2.9", id="same-family"),
        pytest.param("pc-q35-1.6", _offered("pc-q35-9.0", "pc-i440fx-9.1"), "pc-q35-9.0", id="same-family-q35"),
        pytest.param("pc-i440fx-1.6", _offered("pc-q35-9.0", "virt-9.0", "isapc"), None, id="never-another-family"),
        pytest.param(
            "pc-i440fx-1.6",
            _offered("pc-i440fx-2.9", "pc-i440fx-3.0", deprecated=("pc-i440fx-3.0",)),
            "pc-i440fx-2.9",
            id="not-deprecated",
        ),
        pytest.param(
            "pc-i440fx-1.6", _offered("pc-i440fx-3.0", deprecated=("pc-i440fx-3.0",)), None, id="only-deprecated"
        ),
        pytest.param("pc-i440fx-1.6", _offered("pc-i440fx-2.0", "pc-i440fx-1.4"), None, id="only-too-old"),
        pytest.param("pc-i440fx-1.6", _offered("pc", "pc-i440fx-weird"), None, id="only-what-cannot-be-ordered"),
        pytest.param(
            "pc-i440fx-rhel7.0.0",
            _offered("pc-i440fx-rhel7.6.0", "pc-i440fx-9.0"),
            "pc-i440fx-rhel7.6.0",
            id="same-vendor-first",
        ),
        pytest.param("pc-i440fx-rhel7.0.0", _offered("pc-i440fx-9.0"), "pc-i440fx-9.0", id="upstream-for-a-vendor"),
        pytest.param("pc-i440fx-1.6", _offered("pc-i440fx-jammy"), None, id="no-vendor-for-upstream"),
        pytest.param("pc-i440fx-trusty", _offered("pc-i440fx-rhel7.6.0"), None, id="no-vendor-for-another"),
        pytest.param("pc-i440fx-1.6", [], None, id="nothing-offered"),
        pytest.param(
            "pc-i440fx-trusty",
            _offered("pc-i440fx-jammy-hpb", "pc-i440fx-jammy", "pc-i440fx-noble-v2", "pc-i440fx-bionic-maxcpus"),
            "pc-i440fx-noble-v2",
            id="no-variant-for-a-guest-without-it",
        ),
        pytest.param("pc-i440fx-trusty", _offered("pc-i440fx-jammy-hpb"), None, id="only-a-variant"),
        pytest.param(
            "pc-q35-rhel7.0.0",
            _offered("pc-q35-rhel9.8.0", "pc-q35-rhel10.2.0", "pc-q35-rhel9.6.0", "pc-q35-rhel10.0.0"),
            "pc-q35-rhel10.2.0",
            id="rhel-by-number",
        ),
        pytest.param("pc-q35-9.0", _offered("pc-q35-8.2", "pc-q35-7.2"), None, id="never-an-older-one"),
        pytest.param("pc-q35-rhel9.0.0", _offered("pc-q35-rhel8.6.0"), None, id="never-an-older-rhel-of-one-qemu"),
        pytest.param("pc-q35-rhel9.8.0", _offered("pc-q35-rhel10.0.0"), None, id="never-a-rhel-of-an-older-qemu"),
        pytest.param("pc-q35-focal", _offered("pc-q35-eoan"), None, id="never-an-older-ubuntu-of-one-qemu"),
        pytest.param("pc-q35-noble-v2", _offered("pc-q35-noble"), None, id="never-an-older-revision"),
        pytest.param(
            "pc-i440fx-trusty",
            _offered("pc-i440fx-questing", "pc-i440fx-questing-v2", "pc-i440fx-resolute", "pc-i440fx-10.2"),
            "pc-i440fx-resolute",
            id="ubuntu-26.04",
        ),
        pytest.param(
            "pc-q35-noble-v2", _offered("pc-q35-noble", "pc-q35-8.2"), None, id="never-upstreams-for-a-newer-revision"
        ),
        pytest.param(
            "pc-i440fx-noble-v3", _offered("pc-i440fx-noble-v2", "pc-i440fx-9.0"), None, id="nor-upstreams-newer-one"
        ),
        pytest.param(
            "pc-q35-10.1+pve1", _offered("pc-q35-10.1+pve0", "pc-q35-10.1"), None, id="nor-for-proxmox-newer-revision"
        ),
        pytest.param("pc-q35-noble-v2", _offered("pc-q35-10.0"), "pc-q35-10.0", id="a-revision-on-upstream"),
        pytest.param("pc-i440fx-5.2+pve0", _offered("pc-i440fx-7.2"), "pc-i440fx-7.2", id="proxmox-on-upstream"),
        pytest.param("pc-q35-9.2+pve1", _offered("pc-q35-7.2"), None, id="proxmox-of-a-newer-qemu"),
        pytest.param("virt-1.7", _offered("virt-7.2", "pc-q35-7.2"), "virt-7.2", id="aarch64"),
        pytest.param("pseries-2.0", _offered("pseries-7.2", "pseries"), "pseries-7.2", id="ppc64"),
        pytest.param("s390-ccw-virtio-2.0", _offered("s390-ccw-virtio-7.2", "none"), "s390-ccw-virtio-7.2", id="s390x"),
    ],
)
def test_the_successor(name: str, offered: list[OfferedMachine], newest: str | None) -> None:
    machine = parse(name)
    assert machine
    assert successor(machine, offered) == newest


def test_the_lowest_successor_is_the_oldest_that_passes_discards_on() -> None:
    machine = parse("pc-i440fx-1.6")
    assert machine
    offered = _offered("pc-i440fx-2.0", "pc-i440fx-2.10", "pc-i440fx-2.9")
    assert successor(machine, offered, lowest=True) == "pc-i440fx-2.9"


@pytest.mark.parametrize(
    ("name", "offered", "reason"),
    [
        ("pc-i440fx-2.4", _offered("pc-i440fx-5.0", "pc-q35-5.0"), "this QEMU has no pc-i440fx-2.4 any more"),
        ("pc-i440fx-6.1", _offered("pc-i440fx-6.0", "pc-i440fx-6.2"), "this QEMU has no pc-i440fx-6.1 any more"),
        ("pc-i440fx-2.4", _offered("pc-i440fx-5.0", "pc-i440fx-2.4"), None),
        (
            "pc-i440fx-9.0",
            _offered("pc-i440fx-8.2", "pc-q35-9.1"),
            "pc-i440fx-9.0 is of a newer QEMU than this one, whose newest type of the family is pc-i440fx-8.2",
        ),
        ("pc-i440fx-2.4", [], None),
        ("isapc", _offered("pc-i440fx-5.0"), "this QEMU has no machine type isapc"),
        ("isapc", _offered("isapc"), None),
        ("microvm", _offered("pc-q35-rhel9.6.0"), "this QEMU has no machine type microvm"),
        ("pc", _offered("pc-i440fx-5.0"), None),
        (
            "pc-q35-rhel8.2.0",
            _offered("pc-q35-5.0"),
            "pc-q35-rhel8.2.0 is a type of RHEL's QEMU, and this QEMU is not RHEL's",
        ),
        ("pc-q35-rhel8.2.0", _offered("pc-q35-rhel9.4.0"), "this QEMU has no pc-q35-rhel8.2.0 any more"),
        (
            "pc-q35-noble",
            _offered("pc-q35-10.0"),
            "pc-q35-noble is a type of Ubuntu's QEMU, and this QEMU is not Ubuntu's",
        ),
        (
            "pc-q35-rhel10.2.0",
            _offered("pc-q35-rhel9.6.0", "pc-q35-rhel9.4.0"),
            "pc-q35-rhel10.2.0 is of a newer QEMU than this one, whose newest type of the family is pc-q35-rhel9.6.0",
        ),
        (
            "pc-q35-rhel9.0.0",
            _offered("pc-q35-rhel8.6.0"),
            "pc-q35-rhel9.0.0 is of a newer QEMU than this one, whose newest type of the family is pc-q35-rhel8.6.0",
        ),
        (
            "pc-i440fx-noble",
            _offered("pc-i440fx-10.0", "pc-i440fx-jammy", "pc-i440fx-focal"),
            "pc-i440fx-noble is of a newer QEMU than this one, whose newest type of the family is pc-i440fx-jammy",
        ),
        (
            "pc-q35-noble-v2",
            _offered("pc-q35-noble"),
            "pc-q35-noble-v2 is of a newer QEMU than this one, whose newest type of the family is pc-q35-noble",
        ),
        (
            "pc-q35-7.2",
            _offered("pc-q35-rhel9.6.0"),
            "pc-q35-7.2 is a type of upstream's QEMU, and this QEMU is RHEL's, which does not have it",
        ),
        (
            "pc-i440fx-9.2+pve1",
            _offered("pc-i440fx-10.0"),
            "pc-i440fx-9.2+pve1 is a type of Proxmox VE's QEMU, and this QEMU is not Proxmox VE's",
        ),
        ("pseries-2.0", _offered("pc-q35-5.0"), "this QEMU has no pseries-2.0, nor another type of the family pseries"),
        ("pc-i440fx-tumbleweed", _offered("pc-i440fx-5.0"), "this QEMU has no machine type pc-i440fx-tumbleweed"),
        ("mac99", _offered("pc-i440fx-5.0"), "this QEMU has no machine type mac99"),
        ("mac99", _offered("mac99"), None),
    ],
)
def test_a_type_that_is_not_offered_has_a_reason(
    name: str, *, offered: list[OfferedMachine], reason: str | None
) -> None:
    assert why_not_offered(name, offered) == reason


@pytest.mark.parametrize(
    ("name", "offered", "reason"),
    [
        ("ubuntu", _offered("pc-i440fx-7.2"), "this QEMU has no machine type ubuntu"),
        ("virt", _offered("virt"), None),
    ],
)
def test_an_alias_that_this_qemu_does_not_have(name: str, *, offered: list[OfferedMachine], reason: str | None) -> None:
    assert why_not_offered(name, offered, is_resolved=True) == reason
    assert why_not_offered(name, offered) is None


def _upstream(
    family: str, oldest: tuple[int, int], newest: tuple[int, int], deprecated_to: tuple[int, int]
) -> list[OfferedMachine]:
    """The types of one family that an upstream QEMU offers."""
    minors = {1: range(4, 8), 2: range(13), 3: range(2)}
    releases = [(major, minor) for major in range(1, 13) for minor in minors.get(major, range(3))]
    return [
        OfferedMachine(f"{family}-{written(release)}", release <= deprecated_to)
        for release in releases
        if oldest <= release <= newest
    ]


#: what the QEMUs of hypervisors in use offer: Debian 12, 13 and sid, Ubuntu 24.04 and 26.04, RHEL 9 and 10
HOSTS = {
    "debian-12": _upstream("pc-i440fx", (1, 4), (7, 2), (1, 7)) + _upstream("pc-q35", (2, 4), (7, 2), (1, 7)),
    "debian-13": _upstream("pc-i440fx", (2, 4), (10, 0), (7, 0)) + _upstream("pc-q35", (2, 4), (10, 0), (7, 0)),
    "sid": _upstream("pc-i440fx", (5, 2), (11, 1), (8, 1)) + _upstream("pc-q35", (5, 2), (11, 1), (8, 1)),
    "ubuntu-24.04": [
        *_upstream("pc-i440fx", (2, 0), (8, 2), (2, 3)),
        *_offered("pc-i440fx-trusty", "pc-i440fx-xenial", "pc-i440fx-bionic", "pc-i440fx-bionic-hpb", "pc-i440fx-jammy",
                  "pc-i440fx-jammy-hpb", "pc-i440fx-jammy-hpb-maxcpus", "pc-i440fx-noble", "pc-i440fx-noble-v2"),
    ],
    "ubuntu-26.04": [
        *_upstream("pc-i440fx", (4, 2), (10, 2), (7, 2)),
        *_offered("pc-i440fx-jammy", "pc-i440fx-noble", "pc-i440fx-noble-v2", "pc-i440fx-resolute"),
    ],
    "rhel-9.6": _offered("pc-i440fx-rhel7.6.0", "pc-q35-rhel7.6.0", "pc-q35-rhel8.6.0", "pc-q35-rhel9.0.0",
                         "pc-q35-rhel9.6.0", deprecated=("pc-i440fx-rhel7.6.0",)),
    "rhel-10.2": _offered("pc-i440fx-rhel10.0.0", "pc-q35-rhel9.6.0", "pc-q35-rhel10.0.0", "pc-q35-rhel10.2.0",
                          deprecated=("pc-q35-rhel9.6.0",)),
}  # fmt: skip
EVERY_TYPE = sorted({offer.name for offered in HOSTS.values() for offer in offered} | {"pc-1.0", "rhel6.5.0"})


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("name", EVERY_TYPE)
def test_a_guest_of_any_host_moved_to_another(host: str, name: str) -> None:
    """It starts, or has a reason; whatever takes its place is not older, not deprecated, and of its family."""
    machine = parse(name)
    assert machine
    assert machine.version
    offered = HOSTS[host]
    assert (why_not_offered(name, offered) is None) == (name in {offer.name for offer in offered})
    taken = successor(machine, offered)
    if taken is None:
        return
    after = parse(taken)
    assert after
    assert after.version
    assert OfferedMachine(taken, deprecated=False) in offered
    assert (after.family, after.variant) == (machine.family, machine.variant)
    assert after.version >= machine.version
    if after.vendor == machine.vendor:
        assert (after.version, after.release) >= (machine.version, machine.release)
    assert after.vendor in (machine.vendor, "")


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("pc-i440fx-2.1", "QEMU 10.0 drops it"),
        ("pc-q35-2.4", "QEMU 10.1 drops it"),
        ("pc-i440fx-2.12", "QEMU 10.1 drops it"),
        ("pc-q35-4.0.1", "QEMU 10.1 drops it"),
        ("pc-q35-4.2", "QEMU 10.2 drops it"),
        ("pc-q35-5.0", "QEMU 11.0 drops it"),
        ("pc-i440fx-8.1", "QEMU 14.1 drops it"),
        ("pc-q35-rhel8.2.0", "a later QEMU drops it"),
        ("pc-q35-noble", "a later QEMU drops it"),
        ("isapc", "a later QEMU drops it"),
        ("virt-2.12", "QEMU 10.0 drops it"),
        ("pseries-3.0", "QEMU 10.1 drops it"),
        ("s390-ccw-virtio-2.7", "a later QEMU drops it"),
    ],
)
def test_the_release_that_drops_a_type_follows_from_its_own(name: str, end: str) -> None:
    """Beside Debian's QEMU 11.1, whose oldest types are 5.2, and 10.0, whose oldest are 2.4."""
    machine = parse(name)
    assert machine
    assert end_of(machine) == end


@pytest.mark.parametrize(
    ("name", "offered", "has_none"),
    [
        ("mac99", [], True),
        ("vexpress-a9", [], True),
        ("akita", _offered("akita", "virt-7.2"), True),
        ("akita", [], False),
        ("pc-i440fx-tumbleweed", [], False),
        ("acme-appliance-r3", _offered("pc-i440fx-7.2"), False),
        ("acme-1.2", _offered("acme-1.2"), False),
    ],
)
def test_a_board_has_no_version(name: str, *, offered: list[OfferedMachine], has_none: bool) -> None:
    assert has_no_version(name, offered) is has_none


#: RHEL's and Ubuntu's releases beside the QEMU that each is made from, as their own tools print them
RHEL = [
    ("7.0.0", "1.5"), ("7.1.0", "2.1"), ("7.2.0", "2.3"), ("7.3.0", "2.6"), ("7.4.0", "2.9"), ("7.5.0", "2.10"),
    ("7.6.0", "2.12"), ("8.0.0", "3.1"), ("8.1.0", "4.1"), ("8.2.0", "4.2"), ("8.3.0", "5.1"), ("8.4.0", "5.2"),
    ("8.5.0", "6.0"), ("8.6.0", "6.2"), ("9.0.0", "6.2"), ("9.2.0", "7.2"), ("9.4.0", "8.2"), ("9.6.0", "9.1"),
    ("9.8.0", "10.1"),
]  # fmt: skip
UBUNTU = [
    ("trusty", "2.0"), ("utopic", "2.1"), ("vivid", "2.2"), ("wily", "2.4"), ("xenial", "2.5"), ("yakkety", "2.6"),
    ("zesty", "2.8"), ("artful", "2.10"), ("bionic", "2.11"), ("cosmic", "2.12"), ("disco", "3.1"), ("eoan", "4.0"),
    ("focal", "4.0"), ("groovy", "5.0"), ("hirsute", "5.2"), ("impish", "6.0"), ("jammy", "6.2"), ("kinetic", "7.0"),
    ("lunar", "7.2"), ("mantic", "8.0"), ("noble", "8.2"), ("oracular", "9.0"), ("plucky", "9.2"),
    ("questing", "10.1"), ("resolute", "10.2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *((f"pc-i440fx-rhel{release}", version) for release, version in RHEL),
        *((f"pc-q35-{release}", version) for release, version in UBUNTU),
    ],
)
def test_a_vendor_s_type_is_as_old_as_its_qemu(name: str, version: str) -> None:
    known = parse(name)
    assert known is not None
    assert known.version is not None
    assert ".".join(map(str, known.version)) == version


@pytest.mark.parametrize("table", [RHEL, UBUNTU])
def test_no_release_of_a_vendor_has_an_older_qemu_than_the_one_before(table: list[tuple[str, str]]) -> None:
    versions = [tuple(map(int, version.split("."))) for _, version in table]
    assert versions == sorted(versions)
