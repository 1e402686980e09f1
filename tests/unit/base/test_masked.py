"""Diffs show what changes, and nothing around it that may be a secret."""

from __future__ import annotations

import difflib
import random
import string
import time

import pytest

from reclaim.base.masked import MASK, diff_files, news, words
from reclaim.changes.file_change import FileChange
from reclaim.changes.live_update import LiveUpdate
from reclaim.definition.compare import diff_definitions, storage_differences
from reclaim.definition.domain import Definition
from tests.support import disk_xml, domain_xml

S = "zq7hunter2xw"  # lower case, without a mark: nothing but its place tells that it is one

# Files


@pytest.mark.parametrize(
    "beside",
    [
        f"//srv/x /mnt cifs user=a,pass={S},uid=0 0 0",
        f"//srv/x /mnt cifs {S},pass={S} 0 0",
        f":/ /c ceph name=a,secret={S}== 0 0",
        f"http://u:{S}@h/ /d davfs {S}",
        f"u:{S}@h:/ /d fuse.sshfs defaults",
        f"password_pbkdf2 root {S}",
        f"password {S} {S}",
        f"export X={S}",
        f"sshpass -p {S} ssh h",
        f"cat >/x <<EOF\n{S}\nEOF",
        f"# {S}",
        f"-----BEGIN PRIVATE KEY-----\n{S}\n-----END PRIVATE KEY-----",
        f"Environment=A={S}",
        f"   {S}",
    ],
)
@pytest.mark.parametrize("above", [True, False])
def test_a_line_beside_a_changed_one_is_not_shown(beside: str, *, above: bool) -> None:
    lines = [beside, "/dev/vda1 / ext4 defaults 0 1"] if above else ["/dev/vda1 / ext4 defaults 0 1", beside]
    before = "\n".join(lines) + "\n"
    shown = diff_files(before, before.replace("/dev/vda1", "UUID=aaaa-1"), "/etc/fstab")
    assert S not in shown
    assert "-/dev/vda1 / ext4 defaults 0 1\n+UUID=aaaa-1 / ext4 defaults 0 1" in shown


@pytest.mark.parametrize(
    "line",
    [
        f"/dev/vda1 /mnt crypt user=a,{S}=1,pass={S},ro 0 0",
        f"/dev/vda1 /mnt x key=/{S} 0 0",
        f"/dev/vda1 /mnt x {S} 0 0",
        f'GRUB_CMDLINE_LINUX="quiet {S} root=/dev/vda1 netroot=iscsi:u:{S}@h x={S}"',
        f"linux /vmlinuz root=/dev/vda1 token={S} {S}=/dev/vda1",
        f"swap /dev/vda1 /dev/urandom {S}",
        f"0 3 * * * root sshpass -p {S} rsync -a /dev/vda1 /x",
        f"sshpass -p'{S}' rsync -a /dev/vda1 {S}@h:/x",
        f"rsync --password /{S} /dev/vda1",
        f"rsync --password=/{S} /dev/vda1",
        f"curl -u a:{S} https://h/{S}?x={S} && rsync /dev/vda1 /x",
        f'rsync -e "ssh -o X={S}" /dev/vda1 /x',
        f"RESTIC_PASSWORD={S} rsync /dev/vda1 /x # {S}",
        f"echo {S}|rsync /dev/vda1 ${{{S}}}",
        f"ExecStart=/usr/bin/rsync /dev/vda1 {S},{S};{S}",
    ],
)
def test_of_a_changed_line_only_the_change_is_shown(line: str) -> None:
    shown = diff_files(f"{line}\n", f"{line}\n".replace("/dev/vda1", "UUID=aaaa-1"), "/etc/x")
    assert S not in shown
    old, new = shown.splitlines()[-2:]
    assert (old[0], new[0]) == ("-", "+")
    assert "/dev/vda1" in old
    assert "UUID=aaaa-1" in new


@pytest.mark.parametrize("before", ["/dev/vda1", "/dev/vda2:root"])
@pytest.mark.parametrize(
    "key", ["root", "boot", "resume", "real_root", "mount.usr", "cryptroot", "cryptdevice", "rd.luks.uuid"]
)
def test_the_parameter_of_the_kernel_that_changes_is_shown(key: str, before: str) -> None:
    device = before.partition(":")[0]
    old = f"linux /vmlinuz {key}={before} {S}=1 ro\n"
    shown = diff_files(old, old.replace(device, "UUID=aaaa-1"), "/boot/loader/entries/a.conf").splitlines()
    assert S not in "".join(shown)
    assert any(line.startswith("-") and f"{key}={device}" in line for line in shown)
    assert any(line.startswith("+") and f"{key}=UUID=aaaa-1" in line for line in shown)


def test_a_file_that_is_taken_away_is_shown_as_far_as_it_is_known() -> None:
    before = f"[Swap]\nWhat=/dev/vda2\nOptions=discard\nEnvironment=A={S}\n# {S}\n"
    shown = diff_files(before, None, "/etc/systemd/system/dev-vda2.swap")
    assert S not in shown
    assert "-What=/dev/vda2" in shown
    assert "-Options=discard" in shown


def test_lines_that_go_for_others_are_shown_as_far_as_they_are_known() -> None:
    shown = diff_files(f"a {S}\nb {S}\n", "c\n", "/etc/x")
    assert S not in shown
    assert "+c" in shown


def test_a_file_made_from_another_shows_only_what_is_new() -> None:
    old = f"[Swap]\nWhat=/dev/vda2\n# {S}\n"
    new = old.replace("/dev/vda2", "/dev/disk/by-uuid/aaaa-2")
    change = FileChange("one", "/etc/new.swap", None, new, like=old)
    assert S not in change.diff
    assert "+What=/dev/disk/by-uuid/aaaa-2" in change.diff
    assert S in FileChange("one", "/etc/new.conf", None, f"{S}\n").diff  # it is ours


def test_what_changes_is_read_at_a_glance() -> None:
    before = '# comment\nMODULES=dep\nGRUB_CMDLINE_LINUX="console=ttyS0 resume=/dev/vda2 quiet"\n'
    after = before.replace("/dev/vda2", "UUID=aaaa-2").replace("dep", "most")
    assert diff_files(before, after, "/etc/x").splitlines() == [
        "--- /etc/x (before)",
        "+++ /etc/x (after)",
        "@@ -2,2 +2,2 @@",
        "-MODULES=dep",
        f'-GRUB_CMDLINE_LINUX="{MASK} resume=/dev/vda2 quiet"',
        "+MODULES=most",
        f'+GRUB_CMDLINE_LINUX="{MASK} resume=UUID=aaaa-2 quiet"',
    ]


def test_a_job_shows_its_options() -> None:
    before = f"#!/bin/sh\nexport RSYNC_PASSWORD={S}\nsshpass -p {S} rsync -aHAX /srv/images/ {S}@nas::images\n"
    after = before.replace("rsync -a", "rsync --sparse -a")
    assert diff_files(before, after, "/root/job").splitlines()[2:] == [
        "@@ -3 +3 @@",
        f"-sshpass -p {MASK} rsync -aHAX /srv/images/ {MASK}",
        f"+sshpass -p {MASK} rsync --sparse -aHAX /srv/images/ {MASK}",
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [("a\nb\n", "a\nc\n"), ("a\n", "a\nb\nc\n"), ("a\nb\nc\n", "c\n"), ("", "a\n"), ("a\n", ""), ("a\n", "a\n")],
)
def test_it_is_a_unified_diff_as_others_make_it(before: str, after: str) -> None:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "/x (before)", "/x (after)", lineterm="", n=0)
    heads = [line for line in lines if line[:2] in ("--", "++", "@@")]
    assert [line for line in diff_files(before, after, "/x").splitlines() if line[:2] in ("--", "++", "@@")] == heads


@pytest.mark.slow
def test_long_files_take_time_by_their_length() -> None:
    """CPU seconds: by the square of 40,000 lines it would be hours."""
    before = [f"{S}{number % 7} x" for number in range(40_000)]
    began = time.process_time()
    for after in ([*before[:9], "y", *before[10:]], [*before[:20_000], "y", *before[20_000:]], before[::-1]):
        shown = diff_files("\n".join(before), "\n".join(after), "/x")
        assert "+y" in shown or after == before[::-1]
        assert S not in shown
    assert time.process_time() - began < 60


def test_of_a_command_the_harmless_words_are_shown() -> None:
    assert words(f"mysqldump -p{S} db") == MASK
    shown = words(f"rsync -a --password={S} /srv/images/ u:{S}@h:/x")
    assert shown == f"rsync -a --password={MASK} /srv/images/ {MASK}"
    assert words("qemu-img convert -O qcow2 /a/b.img /c") == f"qemu-img convert -O {MASK} /a/b.img /c"


# Definitions

_QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"


@pytest.mark.parametrize(
    "device",
    [
        f"<graphics type='vnc' passwd='{S}' port='1'/>",
        f"<graphics type='spice' passwd='{S}'/>",
        f"<disk type='network'><source protocol='https' name='d/{S}/x' query='{S}'/></disk>",
        f"<disk type='network'><source><cookies><cookie name='a'>{S}</cookie></cookies></source></disk>",
        f"<disk type='network'><auth username='{S}'><secret type='ceph' usage='{S}'/></auth></disk>",
        f"<disk type='network'><source protocol='iscsi'><initiator><iqn name='{S}'/></initiator></source></disk>",
        f"<disk type='file'><encryption format='luks'><secret type='passphrase'>{S}</secret></encryption></disk>",
        f"<sound model='ich9'><codec x='{S}'/></sound>",
        f"<tpm model='tpm-tis'><backend type='emulator'><encryption secret='{S}'/></backend></tpm>",
        f"<interface type='network'><filterref filter='f'><parameter name='K' value='{S}'/></filterref></interface>",
        f"<interface type='x'><virtualport type='802.1Qbh'><parameters profileid='{S}'/></virtualport></interface>",
        f"<serial type='tcp'><source mode='connect' host='{S}' service='{S}'/></serial>",
        f"<rng model='virtio'><backend model='egd'>{S}</backend></rng>",
        f"<hostdev mode='subsystem'><source protocol='iscsi'><auth username='{S}'/></source></hostdev>",
        f"<!-- {S} -->",
        f"<?x {S}?>",
        f"<video>{S}<model type='qxl'/>{S}</video>",
        f"<unheard-of of='{S}'>{S}</unheard-of>",
        f"<qemu:commandline {_QEMU}><qemu:arg value='secret,id=a,{S}'/></qemu:commandline>",
        f"<qemu:commandline {_QEMU}><qemu:env name='A' value='{S}'/></qemu:commandline>",
        f"<a:b xmlns:a='urn:a' type='{S}' dev='{S}'>{S}</a:b>",
    ],
)
def test_what_stands_around_a_change_of_a_definition_is_masked(device: str) -> None:
    """Before it, behind it, and inside of what changes."""
    for devices in ((device, disk_xml()), (disk_xml(), device), (disk_xml(inner=device),)):
        before = Definition(domain_xml(*devices))
        edit = before.edit()
        edit.driver(edit.disk("vda")).set("discard", "unmap")
        shown = diff_definitions(before, edit.definition)
        assert S not in shown
        assert 'discard="unmap"' in shown


@pytest.mark.parametrize(
    "part",
    [
        f"<title>{S}</title>",
        f"<description>{S}</description>",
        f"<metadata><app:x xmlns:app='urn:a' token='{S}'>{S}</app:x></metadata>",
        f"<sysinfo type='smbios'><oemStrings><entry>io.systemd.credential:x={S}</entry></oemStrings></sysinfo>",
        f"<sysinfo type='fwcfg'><entry name='opt/{S}'>{S}</entry></sysinfo>",
        f"<launchSecurity type='sev'><dhCert>{S}</dhCert><session>{S}</session></launchSecurity>",
        f"<keywrap><cipher name='{S}' state='on'/></keywrap>",
        f"<os><type machine='pc'>hvm</type><kernel>/k</kernel><cmdline>{S}</cmdline><initargs>{S}</initargs></os>",
    ],
)
def test_what_stands_around_a_change_of_the_domain_is_masked(part: str) -> None:
    before = Definition(f"<domain type='kvm'>{part}<vcpu>1</vcpu><on_crash>restart</on_crash>{part}</domain>")
    after = Definition(before.xml.replace("<vcpu>1</vcpu>", "<vcpu>2</vcpu>"))
    shown = diff_definitions(before, after)
    assert S not in shown
    assert "+  <vcpu>2</vcpu>" in shown


def test_a_changed_secret_shows_in_neither_line() -> None:
    one, two = (Definition(domain_xml(f"<graphics type='vnc' passwd='{word}'/>")) for word in ("first", "second"))
    shown = diff_definitions(one, two)
    assert "first" not in shown
    assert "second" not in shown


def test_a_disk_that_is_attached_shows_no_secret() -> None:
    disk = (
        f"<disk type='network' device='disk'><source protocol='https' name='{S}' query='t={S}'>"
        f"<cookies><cookie name='a'>{S}</cookie></cookies></source><target dev='sda' bus='scsi'/></disk>"
    )
    for change in (LiveUpdate("one", "sda", None, disk), LiveUpdate("one", "sda", disk, disk.replace("sda", "sdb"))):
        assert S not in change.diff
        assert '<target dev="sd' in change.diff


def test_of_what_libvirt_drops_only_the_new_is_named() -> None:
    words = f"domain/devices/disk/driver name='qemu' discard_no_such='on' secret='{S}'"
    assert news(words, f"<driver secret='{S}'/>") == (
        f"domain/devices/disk/driver name='qemu' discard_no_such='on' secret={MASK}"
    )


def test_where_a_disk_lies_is_told_without_what_may_be_a_secret() -> None:
    def of(word: str) -> Definition:
        source = f"<source protocol='https' name='{word}' query='t={word}'><host name='h' port='443'/></source>"
        return Definition(domain_xml(f"<disk type='network'>{source}<target dev='vda' bus='scsi'/></disk>"))

    (words,) = storage_differences(of(S), of(f"{S}-other"))
    place = f"name={MASK} protocol=https query={MASK} name=h port=443"
    assert words == f"disk vda runs on {place}, is defined on {place}"


@pytest.mark.parametrize("key", ["/Ab9Xk2+Yz==", "/x9Y/z8W", "//aB3dE5fG7", "-aB3dE5fG7", "--aB3dE5fG7", "12,34:56"])
def test_a_key_that_looks_like_a_path_or_an_option_is_masked(key: str) -> None:
    for line in (f"tool -u {key} /dev/vda1", f"tool /dev/vda1 '{key}' x", f"x={key} /dev/vda1", f"a:{key}@b /dev/vda1"):
        assert key not in diff_files(line, line.replace("/dev/vda1", "UUID=aaaa-1"), "/etc/x")


@pytest.mark.slow
def test_no_secret_of_any_make_is_shown_whole_wherever_it_stands() -> None:
    chance = random.Random(7)
    around = [
        *"|;'\"(){}<>#=,:@%\\ ",
        "&&",
        "rsync",
        "-a",
        "/srv/images/",
        "user=a,",
        "pass=",
        "${X}",
        "export ",
        " -u ",
    ]
    alphabet = string.ascii_letters + string.digits + "+/=._-!$%^&*~,;:@?"
    for _ in range(3000):
        secrets = ["".join(chance.choices(alphabet, k=chance.randint(8, 24))) for _ in range(3)]
        parts = [piece for secret in secrets for piece in (chance.choice(around), secret, chance.choice(around))]
        parts.insert(chance.randrange(len(parts)), " /dev/vda1 ")
        line = chance.choice(["", " "]).join(parts)
        shown = diff_files(line, line.replace("/dev/vda1", "UUID=aaaa-1"), "/etc/x")
        assert not [secret for secret in secrets if secret in shown], line
