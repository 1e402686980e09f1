"""Definitions with the forms of disks that fleets hold, beside those of the corpus."""

from __future__ import annotations

from dataclasses import dataclass

EMULATOR = "/usr/bin/qemu-system-x86_64"
#: in a definition: the oldest machine type of i440fx that this QEMU has
OLDEST = "pc-i440fx-oldest"
SECRET = "5d2f5d0a-3a5c-4f1c-9b1a-6d2d8f6d9c11"


@dataclass(frozen=True)
class Variant:
    """A definition, and words that its report must have: in a row's evidence or in its reason."""

    xml: str
    says: tuple[str, ...] = ()


def disk(
    target: str,
    bus: str,
    inner: str = "",
    *,
    driver: str = "type='qcow2'",
    device: str = "disk",
    attributes: str = "",
    source: str | None = None,
    type: str = "file",  # noqa: A002 (libvirt's word)
) -> str:
    medium = f"<source file='/images/{target}-{bus}.img'/>" if source is None else source
    return (
        f"<disk type='{type}' device='{device}' {attributes}><driver name='qemu' {driver}/>{medium}"
        f"<target dev='{target}' bus='{bus}'/>{inner}</disk>"
    )


def drive(unit: int, controller: int = 0, target: int = 0) -> str:
    return f"<address type='drive' controller='{controller}' bus='0' target='{target}' unit='{unit}'/>"


def domain(
    *devices: str,
    machine: str = "q35",
    arch: str = "x86_64",
    head: str = "",
    tail: str = "",
    boot: str = "<boot dev='hd'/>",
    emulator: str = EMULATOR,
) -> str:
    return (
        f"<domain type='qemu'><name>x</name><memory>262144</memory>{head}"
        f"<os><type arch='{arch}' machine='{machine}'>hvm</type>{boot}</os>"
        f"<devices><emulator>{emulator}</emulator>{''.join(devices)}</devices>{tail}</domain>"
    )


def _lsilogic(model: str) -> str:
    return domain(
        disk("sda", "scsi", drive(0)),
        disk("sdb", "scsi", f"<readonly/>{drive(1)}", device="cdrom", driver="type='raw'"),
        disk(
            "sdc", "scsi", drive(2), type="block", device="lun", driver="type='raw'", source="<source dev='/dev/sdz'/>"
        ),
        disk("sdd", "scsi", drive(3)),
        "<hostdev mode='subsystem' type='scsi'><source><adapter name='scsi_host0'/>"
        f"<address bus='0' target='0' unit='0'/></source>{drive(4)}</hostdev>",
        f"<controller type='scsi' index='0' {model}/>",
        machine="pc",
    )


def _many(count: int, machine: str) -> str:
    names = [f"vd{chr(97 + number)}" if number < 26 else f"vda{chr(71 + number)}" for number in range(count)]
    return domain(*(disk(name, "virtio") for name in names), machine=machine)


def _pci(slot: int) -> str:
    return f"<address type='pci' domain='0x0000' bus='0x00' slot='0x{slot:02x}' function='0x0'/>"


def _full_bus(*disks: str, root: str = "pci-root", machine: str = "pc", slots: range = range(4, 32)) -> str:
    """*disks*, and a network card in each of *slots*; there is no other PCI device."""
    cards = [
        f"<interface type='user'><mac address='52:54:00:00:01:{slot:02x}'/><model type='e1000'/>"
        f"{_pci(slot)}</interface>"
        for slot in slots
    ]
    nothing = "<controller type='usb' model='none'/><memballoon model='none'/>"
    return domain(f"<controller type='pci' index='0' model='{root}'/>", *disks, *cards, nothing, machine=machine)


ALL_OF_VIRTIO_BLK = (
    "type='raw' queues='4' iothread='1' ioeventfd='on' event_idx='on' iommu='on' ats='on' packed='on' "
    "page_per_vq='on' queue_size='256'"
)
THREADS = "<vcpu>4</vcpu><iothreads>3</iothreads>"
TEXT = "<mine:note xmlns:mine='urn:site'><!-- kept --><mine:b a='1'/><mine:a/></mine:note>"

VARIANTS: dict[str, Variant] = {
    "all-of-virtio-blk": Variant(
        domain(
            disk("vda", "virtio", driver=ALL_OF_VIRTIO_BLK, attributes="model='virtio-non-transitional'"), head=THREADS
        ),
        (
            "dropped: model='virtio-non-transitional', event_idx='on', queue_size='256' (only virtio-blk has that)",
            "queues='4' is on controller 0 now",
            "iothread='1' is on controller 0 now",
        ),
    ),
    "iothread-each": Variant(
        domain(
            disk("vda", "virtio", driver="type='raw' iothread='1'"),
            disk("vdb", "virtio", driver="type='raw' iothread='2'"),
            disk("vdc", "virtio", driver="type='raw'"),
            disk("vdd", "virtio", driver="type='raw' iothread='2'"),
            head=THREADS,
        ),
        ("iothread='2' is on controller 1 now",),
    ),
    "queues-differ": Variant(
        domain(
            disk("vda", "virtio", driver="type='raw' queues='4'"),
            disk("vdb", "virtio", driver="type='raw' queues='2'"),
            machine="pc",
            head=THREADS,
        ),
        ("queues='4' is on controller 0 now", "queues='2' is on controller 1 now"),
    ),
    "names-taken": Variant(
        domain(
            disk("vda", "virtio"),
            disk("vdb", "virtio"),
            disk("hda", "ide"),
            disk("hdc", "ide", "<readonly/>", device="cdrom", source=""),
            disk("sda", "usb"),
            disk("sdc", "usb", "<readonly/>", device="cdrom", driver="type='raw'"),
            disk("fda", "fdc", device="floppy", driver="type='raw'"),
            machine="pc",
        ),
        ("it is a USB disk, which can be unplugged at any time: it stays on usb",),
    ),
    "boots-from-virtio-beside-scsi": Variant(
        domain(disk("vda", "virtio"), disk("sda", "scsi", drive(0)), disk("sdb", "scsi", drive(1))),
        ("the target stays vda: under another name the guest would boot from another disk",),
    ),
    "boots-from-virtio-beside-sata": Variant(domain(disk("vda", "virtio"), disk("sda", "sata"), disk("sdb", "sata"))),
    "boots-from-the-second-name": Variant(domain(disk("vdb", "virtio"), disk("hda", "ide"), machine="pc")),
    "boot-order-of-devices": Variant(
        domain(
            disk("vda", "virtio", "<boot order='2'/>"),
            disk("sda", "sata", "<boot order='1'/>"),
            "<interface type='user'><mac address='52:54:00:00:00:01'/><boot order='3'/></interface>",
            boot="",
        )
    ),
    "lsilogic-shared": Variant(_lsilogic("model='lsilogic'"), ("was: controller 0 is lsilogic",)),
    "no-model-shared": Variant(_lsilogic("")),
    "lsilogic-own": Variant(
        domain(disk("sda", "scsi", drive(0)), "<controller type='scsi' index='0' model='lsilogic'/>", machine="pc")
    ),
    "ibmvscsi-own": Variant(
        domain(disk("sda", "scsi", drive(0)), "<controller type='scsi' index='0' model='ibmvscsi'/>", machine="pc")
    ),
    "foreign-controller-alone": Variant(
        domain(
            disk("sdc", "scsi", f"<readonly/>{drive(0, 1)}", device="cdrom", driver="type='raw'"),
            disk("vda", "virtio"),
            "<controller type='scsi' index='1' model='lsilogic'/>",
        )
    ),
    "transitional": Variant(
        domain(
            disk("sda", "scsi", drive(0)),
            disk("vda", "virtio", driver="type='raw' packed='on'"),
            "<controller type='scsi' index='0' model='virtio-transitional'/>",
        )
    ),
    "ten-on-i440fx": Variant(_many(10, "pc")),
    "thirty-on-q35": Variant(_many(30, "q35")),
    "ide-four": Variant(
        domain(*(disk(f"hd{one}", "ide", f"<wwn>5000c50015ea71a{one}</wwn>") for one in "abcd"), machine="pc")
    ),
    "ide-translated": Variant(
        domain(disk("hda", "ide", "<geometry cyls='16383' heads='16' secs='63' trans='lba'/>"), machine="pc"),
        ("withheld: its geometry has a translation mode (trans), which only ide has",),
    ),
    "geometry": Variant(domain(disk("vda", "virtio", "<geometry cyls='16383' heads='16' secs='63'/>"))),
    "serials": Variant(
        domain(
            disk("vda", "virtio", "<serial>short-1</serial>"),
            disk("vdb", "virtio", "<serial>0f0f0f0f-1111-2222-3333-444444444444</serial>"),
            disk("vdc", "virtio", f"<serial>{'long-' * 12}</serial>"),
        ),
        (
            "the guest sees the serial '0f0f0f0f-1111-2222-3333-444444444444', on virtio it was '0f0f0f0f-1111-2222-3'",
            "(cut to the 36 characters that a SCSI disk can have)",
        ),
    ),
    "kinds-of-disks": Variant(
        domain(
            disk("vda", "virtio", "<shareable/>", driver="type='raw' cache='none'"),
            disk("vdb", "virtio", "<transient/>"),
            disk("vdc", "virtio", "<readonly/>"),
            disk(
                "vdd",
                "virtio",
                type="block",
                driver="type='raw' io='native' cache='none'",
                source="<source dev='/dev/vg/x'/>",
            ),
            disk("vde", "virtio", type="volume", driver="type='raw'", source="<source pool='default' volume='v'/>"),
            disk(
                "vdf",
                "virtio",
                type="network",
                driver="type='raw'",
                source="<source protocol='rbd' name='p/i'><host name='mon1' port='6321'/><host name='mon2'/>"
                f"<auth username='u'><secret type='ceph' uuid='{SECRET}'/></auth></source>",
            ),
            disk(
                "vdg",
                "virtio",
                type="nvme",
                driver="type='raw'",
                source="<source type='pci' managed='yes' namespace='1'>"
                "<address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>",
            ),
            disk(
                "vdh",
                "virtio",
                source=f"<source file='/l'><encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/>"
                "</encryption></source>",
            ),
            disk(
                "vdi",
                "virtio",
                "<backingStore type='file'><format type='qcow2'/><source file='/b1'/>"
                "<backingStore type='file'><format type='raw'/><source file='/b2'/><backingStore/></backingStore>"
                "</backingStore>",
            ),
            disk("vdj", "virtio", driver="type='raw' copy_on_read='on' error_policy='stop' rerror_policy='ignore'"),
            disk(
                "vdk",
                "virtio",
                "<iotune><total_iops_sec>100</total_iops_sec></iotune>"
                "<blockio logical_block_size='512' physical_block_size='4096'/><alias name='ua-mine'/>",
                attributes="snapshot='external'",
                source="<source file='/k' startupPolicy='optional'><seclabel model='dac' relabel='no'/></source>",
            ),
            disk("vdl", "virtio", driver="type='qcow2' detect_zeroes='unmap' discard='ignore' cache='unsafe'"),
            disk("sda", "sata"),
            disk("sdb", "sata", "<readonly/>", device="cdrom", source=""),
        ),
        ("read-only: nothing is ever deleted on it",),
    ),
    "lun-on-virtio-blk": Variant(
        domain(
            disk("vda", "virtio"),
            disk("vdm", "virtio", type="block", device="lun", driver="type='raw'", source="<source dev='/dev/sdx'/>"),
        ),
        ("a LUN passed through: discards go to the LUN as they are",),
    ),
    "vhost-user": Variant(
        domain(
            disk(
                "vda",
                "virtio",
                type="vhostuser",
                driver="type='raw'",
                source="<source type='unix' path='/tmp/v.sock'><reconnect enabled='yes' timeout='10'/></source>",
            ),
            disk("vdb", "virtio"),
            head="<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>",
        ),
        ("vhost-user: the process behind the socket decides about discards",),
    ),
    "usb-alone": Variant(domain(disk("sda", "usb"), machine="pc"), ("no disk of this guest belongs on a SCSI bus",)),
    "words-of-others": Variant(
        domain(
            disk("vda", "virtio"),
            "<graphics type='vnc' port='-1' passwd='s3kr1t'/>",
            "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
            head=f"<metadata>{TEXT}</metadata>",
            tail="<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
            "<qemu:arg value='-no-user-config'/><qemu:env name='A' value='b'/></qemu:commandline>",
        )
    ),
    "ports-written-out": Variant(
        domain(
            disk("vda", "virtio", "<address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/>"),
            disk("vdb", "virtio", "<address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>"),
            "<controller type='pci' index='0' model='pcie-root'/>",
            *(
                f"<controller type='pci' index='{index}' model='pcie-root-port'>"
                f"<target chassis='{index}' port='0x{15 + index:x}'/>"
                f"<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x{index - 1:x}' "
                f"{multi}/></controller>"
                for index, multi in ((1, "multifunction='on'"), (2, ""), (3, ""))
            ),
        )
    ),
    "pci-full": Variant(
        _full_bus(
            disk("vda", "virtio", _pci(2), driver="type='raw' queues='2'"),
            disk("vdb", "virtio", _pci(3), driver="type='raw' queues='4'"),
        ),
        (
            "all PCI slots are taken: the new controller is in the slot that the disk leaves",
            "vda moves to it by the same change",
        ),
    ),
    "pci-full-of-others": Variant(
        _full_bus(disk("hda", "ide"), slots=range(2, 32)),
        ("withheld: all PCI slots of the guest are taken, so libvirt has no place for a new controller",),
    ),
    "pci-but-one": Variant(_full_bus(disk("vda", "virtio", _pci(2)), slots=range(4, 32))),
    "pcie-full": Variant(
        _full_bus(
            disk("vda", "virtio", _pci(1)),
            disk("vdb", "virtio", _pci(2)),
            disk("vdc", "virtio", _pci(3)),
            root="pcie-root",
            machine="q35",
            slots=range(4, 31),
        ),
        ("vda moves to it by the same change",),
    ),
    "machine-oldest": Variant(domain(disk("hda", "ide"), machine=OLDEST), (f"{OLDEST} is older than 2.1",)),
    "machine-oldest-i686": Variant(
        domain(disk("vda", "virtio"), machine=OLDEST, arch="i686"), (f"{OLDEST} is older than 2.1",)
    ),
}


# QEMU's own arguments -------------------------------------------------------------------------


def arguments(*values: str) -> str:
    """`qemu:commandline` with these arguments."""
    inner = "".join(f"<qemu:arg value='{one}'/>" for one in values)
    return f"<qemu:commandline xmlns:qemu='{QEMU}'>{inner}</qemu:commandline>"


def override(alias: str, name: str, value: int) -> str:
    """`qemu:override` of one property of one device."""
    return (
        f"<qemu:override xmlns:qemu='{QEMU}'><qemu:device alias='{alias}'><qemu:frontend>"
        f"<qemu:property name='{name}' type='unsigned' value='{value}'/></qemu:frontend></qemu:device></qemu:override>"
    )


QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
_NIC = ("-netdev", "user,id=n0", "-device")
#: what binds a disk to its bus, and the words with which the disk is left there
BOUND: dict[str, tuple[str, str, str, str]] = {
    # name: machine, bus, tail, words
    "override": ("pc", "virtio", override("virtio-disk0", "logical_block_size", 4096), "names virtio-disk0"),
    "override-sata": ("q35", "sata", override("sata0-0-0", "rotation_rate", 1), "names sata0-0-0"),
    "override-ide": ("pc", "ide", override("ide0-0-0", "rotation_rate", 1), "names ide0-0-0"),
    "set": ("pc", "virtio", arguments("-set", "device.virtio-disk0.discard_granularity=65536"), "names virtio-disk0"),
    "set-drive": ("pc", "virtio", arguments("-set", "drive.drive-virtio-disk0.x=y"), "names drive-virtio-disk0"),
    "global": (
        "pc",
        "virtio",
        arguments("-global", "driver=virtio-blk-pci,property=logical_block_size,value=4096"),
        "which is lost on the scsi bus",
    ),
    "global-dotted": ("pc", "ide", arguments("-global", "ide-hd.rotation_rate=1"), "which is lost on the scsi bus"),
    "global-sectors": (
        "pc",
        "virtio",
        arguments("-global", "scsi-hd.logical_block_size=4096"),
        "which would apply to the disk",
    ),
    "node-name": (
        "pc",
        "virtio",
        arguments("-device", "usb-storage,drive=libvirt-1-format"),
        "names libvirt-1-format",
    ),
    "first-free-slot": ("pc", "virtio", arguments(*_NIC, "e1000,netdev=n0"), "would move to the PCI slot"),
    "its-own-nic": ("pc", "virtio", arguments("-nic", "user,model=e1000"), "would move to the PCI slot"),
    "slot-on-q35": ("q35", "sata", arguments(*_NIC, "e1000,netdev=n0,addr=0x5"), "takes a PCI slot"),
    "named-controller": (
        "pc",
        "ide",
        arguments("-device", "virtio-scsi-pci,id=scsi0,addr=0x1c"),
        "names scsi0, which would become the id of a new controller",
    ),
    "user-alias": (
        "pc",
        "virtio",
        override("ua-root", "config-wce", 1).replace("unsigned", "bool").replace("'1'", "'true'"),
        "which a SCSI disk does not have",
    ),
}
#: arguments beside which a disk moves as ever
FREE = {
    "net": override("net0", "mac", 1).replace("unsigned", "string"),
    "debug-exit": arguments("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"),
    "firmware": arguments("-fw_cfg", "name=opt/ovmf/X-PciMmio64Mb,string=65536", "-smbios", "type=2"),
    "property": arguments("-machine", "vmport=off", "-global", "ICH9-LPC.disable_s3=1"),
    "another-disk": override("virtio-disk7", "logical_block_size", 4096),
    "longer-name": arguments("-fw_cfg", "name=opt/virtio-disk0x,string=my-virtio-disk0"),
    "another-slot": arguments(*_NIC, "e1000,netdev=n0,addr=0x5"),
    "user-alias-that-stays": override("ua-root", "logical_block_size", 4096),
    "usb": arguments("-device", "usb-mouse"),
}


def _bound(machine: str, bus: str, tail: str) -> str:
    target = {"virtio": "vda", "sata": "sda", "ide": "hda"}[bus]
    alias = "<alias name='ua-root'/>" if "ua-root" in tail else ""
    return domain(disk(target, bus, alias), "<interface type='user'/>", machine=machine, tail=tail)


VARIANTS |= {f"bound-{name}": Variant(_bound(*some), (words,)) for name, (*some, words) in BOUND.items()}
VARIANTS |= {f"free-{name}": Variant(_bound("pc", "virtio", tail)) for name, tail in FREE.items()}
VARIANTS["bound-machine"] = Variant(
    domain(disk("sda", "usb"), machine=OLDEST, tail=arguments("-M", OLDEST)),
    (f"the argument -M {OLDEST} of qemu:commandline names a machine type",),
)
VARIANTS["disks-in-arguments"] = Variant(
    domain(tail=arguments("-drive", "if=none,format=raw,file=/dev/null,id=d", "-device", "nvme,drive=d,serial=a")),
    ("libvirt knows nothing of a disk that QEMU's own arguments bring: the argument -drive",),
)
