"""The steps of each command: programs that copy, take snapshots, stop guests."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclaim.base.verdict import Verdict
from reclaim.jobs.steps import Copy, Hold, NotUnderstood, Release, Snapshot, Wait
from reclaim.jobs.tools import is_known, steps_of
from reclaim.jobs.words import UNKNOWN
from tests.jobs import IMAGE, copy_in, job, judged, read_shell, rsync, steps_in, unread_in

__all__ = ["rsync"]


@pytest.mark.parametrize(
    ("command", "verdict", "words"),
    [
        (f"cp --sparse=always {IMAGE} /b", Verdict.COMPLIANT, "cp keeps"),
        (f"cp --sparse=never {IMAGE} /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("cp -a --sparse=never /srv/images/. /b", Verdict.NONCOMPLIANT, "writes every zero"),
        ("rsync -a --exclude=/srv /srv/images/. /b", Verdict.NONCOMPLIANT, "without --sparse"),
        ("rsync -a --exclude=/web.qcow2 /srv/images/. /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -czf /b/vm.tgz /srv/images", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/vm.tar --sparse /srv/images", Verdict.COMPLIANT, "tar --sparse"),
        ("tar -cf /b/all.tar --exclude=/srv/images /", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude '*.qcow2' /srv", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("tar -cf /b/all.tar --exclude=/images --exclude=b.qcow2 /srv", Verdict.NONCOMPLIANT, "tar without --sparse"),
        ("tar -cf /b/all.tar -X /etc/not /", Verdict.NOT_ASSESSABLE, "its list of exclusions"),
        (f"dd if={IMAGE} of=/b/web bs=1M", Verdict.NONCOMPLIANT, "dd without conv=sparse"),
        (f"qemu-img convert -O qcow2 {IMAGE} /b/web.qcow2", Verdict.COMPLIANT, "leaves zeros out"),
        (f"qemu-img convert -S 0 -O raw {IMAGE} /b/web.raw", Verdict.NONCOMPLIANT, "-S 0"),
        ("virtnbdbackup -d one -l full -o /b", Verdict.COMPLIANT, "stream"),
        ("virtnbdbackup -d one -t raw -o /b", Verdict.NONCOMPLIANT, "--type raw"),
        ("borg create /b::x /srv/images", Verdict.NOT_ASSESSABLE, "borg extract --sparse"),
        ("restic -r /b backup /srv/images", Verdict.NOT_ASSESSABLE, "restic restore --sparse"),
        ("rsync -a /etc/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies a guest's image"),
        ("rsync -n -a /srv/images/ /b", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("echo rsync", Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync $OPTIONS /srv/images/ /b", Verdict.NOT_ASSESSABLE, "put together when it runs"),
        ('rsync "$@"', Verdict.NOT_ASSESSABLE, "no command in it copies"),
        ("rsync -a --inplace -S /srv/images/ kvm2:/b", Verdict.NOT_ASSESSABLE, "at the other end"),
        ("/usr/local/bin/backup.sh 'unclosed", Verdict.NOT_ASSESSABLE, "cannot be parsed as shell"),
        ("bash /usr/local/bin/backup.sh", Verdict.NOT_ASSESSABLE, "/usr/local/bin/backup.sh, which cannot be read"),
        ("find /srv/images -exec rsync -a {} /b \\;", Verdict.NONCOMPLIANT, "rsync without --sparse"),
        ('eval "rsync -a /srv/images/ /b"', Verdict.NONCOMPLIANT, "rsync without --sparse"),
    ],
)  # fmt: skip
def test_other_commands(tmp_path: Path, command: str, verdict: Verdict, words: str) -> None:
    _, one = job(tmp_path, f"#!/bin/bash\n{command}\n", "backup.sh")
    found = judged(one)
    assert found.verdict is verdict
    assert words in found.reason + found.evidence


# Copies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "tool", "sources", "target"),
    [
        ("rsync -a /x /z /b/", "rsync", ["/x", "/z"], "/b/"),
        ("/usr/bin/rsync-3.4 -a x nas:b", "rsync", ["/work/x"], "nas:b"),
        ("rsync -a nas:/x b", "rsync", ["nas:/x"], "/work/b"),
        ("cp /x /z /b", "cp", ["/x", "/z"], "/b"),
        ("cp -t /b /x z", "cp", ["/x", "/work/z"], "/b"),
        ("cp --target-directory=/b /x", "cp", ["/x"], "/b"),
        ("cp -S .old -- -x /b", "cp", ["/work/-x"], "/b"),
        ("tar -cf /b/x.tar /x z", "tar", ["/x", "/work/z"], "/b/x.tar"),
        ("tar cf b.tar -C /images web.img", "tar", ["/images/web.img"], "/work/b.tar"),
        ("tar cfC /b.tar /images web.img", "tar", ["/images/web.img"], "/b.tar"),
        ("tar --create --file=/b.tar --directory /images .", "tar", ["/images/"], "/b.tar"),
        ("tar -c -f - /x", "tar", ["/x"], ""),
        ("tar cz /x", "tar", ["/x"], ""),
        ("gtar -rf nas:/b.tar /x", "tar", ["/x"], "nas:/b.tar"),
        ("dd if=/x of=/b", "dd", ["/x"], "/b"),
        ("dd of=b < /x", "dd", ["/x"], "/work/b"),
        ("qemu-img convert -f raw -O qcow2 /x /b", "qemu-img convert", ["/x"], "/b"),
        ("qemu-img convert -U -O qcow2 /x /b", "qemu-img convert -U", ["/x"], "/b"),
        ("virt-sparsify --tmp /t /x /b", "virt-sparsify", ["/x"], "/b"),
        ("virt-clone -o web -n y -f /b", "virt-clone", [], "/b"),
        ("virtnbdbackup -d web -o /b", "virtnbdbackup", [], ""),
        ("scp -P 22 /x nas:/b", "scp", ["/x"], "nas:/b"),
        ("mv /x /b", "mv", ["/x"], "/b"),
        ("borg create -C zstd repo::now /x /z", "borg", ["/x", "/z"], ""),
        ("restic -r /b backup --tag t /x", "restic", ["/x"], ""),
        ("kopia snapshot create /x", "kopia", ["/work/snapshot", "/x"], ""),
        ("rclone sync /x far:b", "rclone", ["/x"], ""),
        ("rclone --config /c copy /x far:b", "rclone", ["/x"], ""),
        ("curl -T /x https://far/", "curl", ["/x"], ""),
        ("curl --upload-file=/x https://far/", "curl", ["/x"], ""),
        ("curl -F file=@/x https://far/", "curl", ["/x"], ""),
        ("aws s3 cp /x s3://b", "aws", ["/work/s3", "/work/cp", "/x", "s3://b"], ""),
        ("zip /b.zip /x", "zip", ["/x"], ""),
        ("7z a /b.7z /x", "7z", ["/x"], ""),
        ("btrfs send -p /old /snap", "btrfs send", ["/snap"], ""),
        ("zfs send tank/vm@now", "zfs send", [UNKNOWN], ""),
        ("cat /x > /b", "cat", ["/x"], "/b"),
    ],
)
def test_the_sources_and_the_target_of_a_copy(command: str, tool: str, sources: list[str], target: str) -> None:
    copy = copy_in(f"{command}\n")
    assert (copy.tool, list(copy.sources), copy.target) == (tool, sources, target)


@pytest.mark.parametrize(
    "command",
    [
        "rsync -an /x /b",
        "rsync --list-only /x /b",
        "rsync /x",
        "cp --attributes-only /x /b",
        "tar -xf /b.tar",
        "tar tf /b.tar",
        "tar",
        "dd of=/b",
        "dd if=/x of=/dev/null",
        "dd if=/x of=/b count=1",
        "qemu-img info /x",
        "qemu-img",
        "virt-sparsify --in-place /x",
        "virt-sparsify /x",
        "borg list /b",
        "restic snapshots",
        "rclone ls far:",
        "curl https://far/",
        "7z x /b.7z",
        "btrfs subvolume list /",
        "zfs list",
        "mount /x",
        "lvcreate -L 1G -n x vg",
        "systemctl status libvirtd",
        "systemctl stop nginx",
        "systemctl start nginx",
        "kill -HUP 1",
        "shutdown -h now",
        "gzip -d /b.gz",
        "echo x",
        "python3 -c 'print(1)'",
        "perl -ne 'print if /x/'",
    ],
)
def test_a_command_that_copies_nothing_has_no_step(command: str) -> None:
    assert steps_in(f"{command}\n") == []


@pytest.mark.parametrize(
    ("command", "wrong", "good"),
    [
        ("cp /x /b", False, True),
        ("cp --sparse=never /x /b", True, True),
        ("cp /dev/vg/x /b", True, True),
        ("cp --sparse=always /dev/vg/x /b", False, True),
        ("cp -a /dev/vg/x /b", False, True),
        ("cp -d /dev/vg/x /b", False, True),
        ("cp /dev/vg/x /dev/vg/y", False, True),
        ("tar -cf /b /x", True, True),
        ("tar -cSf /b /x", False, True),
        ("tar --create --sparse -f /b /x", False, True),
        ("dd if=/x of=/b", True, True),
        ("dd if=/x of=/b conv=sparse", False, True),
        ("dd if=/x of=/b conv=fsync,sparse", False, True),
        ("dd if=/x of=/b conv=sparse,notrunc", True, True),
        ("dd if=/x of=/dev/vg/b", False, True),
        ("dd if=/x of=/dev/vg/b conv=sparse", True, True),
        ("qemu-img convert /x /b", False, True),
        ("qemu-img convert -S 0 /x /b", True, True),
        ("qemu-img convert -S0 /x /b", True, True),
        ("qemu-img convert -S 4k /x /b", False, True),
        ("qemu-img convert -o preallocation=full /x /b", True, True),
        ("qemu-img convert -opreallocation=falloc /x /b", True, True),
        ("qemu-img convert -o size=1G,preallocation=falloc /x /b", True, True),
        ("qemu-img convert -o preallocation=metadata /x /b", False, True),
        ("qemu-img convert -o preallocation=full /x /dev/vg/b", False, True),
        ("virt-sparsify /x /b", False, True),
        ("virt-clone -o web -f /b", False, True),
        ("virt-clone -o web -f /b --nonsparse", True, True),
        ("virtnbdbackup -d web -o /b", False, True),
        ("virtnbdbackup -d web -o /b --type=raw", True, True),
        ("virtnbdbackup -d web -o /b -t stream", False, True),
        ("scp /x nas:/b", True, False),
    ],
)
def test_the_faults_of_a_copy_by_its_options(command: str, *, wrong: bool, good: bool) -> None:
    copy = copy_in(f"{command}\n")
    assert (bool(copy.wrong), bool(copy.good)) == (wrong, good)
    assert all(fault.by_hand for fault in copy.wrong)


@pytest.mark.parametrize(
    ("command", "in_doubt"),
    [
        ("cp $OPTIONS /x", True),
        ("cp $OPTIONS /x /b", False),
        ("cp -t /b $OPTIONS /x", True),
        ("cp /x /b", False),
        ("tar -cf /b $OPTIONS /x", True),
        ("tar -cSf /b $OPTIONS /x", False),
        ("dd if=/x of=$TARGET", True),
        ("dd if=/x of=$TARGET conv=sparse", False),
        ("qemu-img convert $OPTIONS /x /b", True),
        ("mv /x /b", True),
        ("borg create repo::now /x", True),
        ("rclone sync /x far:", True),
        ("curl -T /x https://far", True),
        ("aws s3 cp /x s3://b", True),
        ("zip /b.zip /x", True),
        ("btrfs send /x", True),
        ("duplicity /x file:///b", True),
    ],
)
def test_a_copy_that_cannot_be_judged_has_a_reason(command: str, *, in_doubt: bool) -> None:
    assert bool(copy_in(f"{command}\n").store) is in_doubt


@pytest.mark.parametrize(
    ("command", "reads_devices", "one_filesystem", "at_once", "locks"),
    [
        ("rsync -a /x /b", False, False, False, False),
        ("rsync --copy-devices -x /x /b", True, True, False, False),
        ("cp /x /b", True, False, False, False),
        ("cp -ax /x /b", False, True, False, False),
        ("cp -r --one-file-system /x /b", False, True, False, False),
        ("cp --reflink /x /b", True, False, True, False),
        ("cp --reflink=always /x /b", True, False, True, False),
        ("cp --reflink=auto /x /b", True, False, False, False),
        ("tar -c --one-file-system /x", False, True, False, False),
        ("dd if=/x of=/b", True, False, False, False),
        ("qemu-img convert /x /b", True, False, False, True),
        ("qemu-img convert --force-share /x /b", True, False, False, False),
        ("virt-clone -o web -f /b", False, False, False, True),
        ("virtnbdbackup -d web", False, False, True, False),
        ("borg create -x repo::now /x", True, True, False, False),
        ("borg create --read-special repo::now /x", True, False, False, False),
        ("btrfs send /x", False, False, True, False),
    ],
)
def test_how_a_command_reads_what_it_copies(
    command: str,
    reads_devices: bool,  # noqa: FBT001
    one_filesystem: bool,  # noqa: FBT001
    at_once: bool,  # noqa: FBT001
    locks: bool,  # noqa: FBT001
) -> None:
    copy = copy_in(f"{command}\n")
    assert (copy.one_filesystem, copy.at_once, copy.locks) == (one_filesystem, at_once, locks)
    if copy.tool != "borg":
        assert copy.reads_devices is reads_devices


def test_a_copy_of_a_guest_by_its_name() -> None:
    assert copy_in("virt-clone --original web -f /b\n").of_guest == "web"
    assert copy_in("virt-clone -f /b\n").of_guest == UNKNOWN
    assert copy_in("virtnbdbackup --domain=web -o /b\n").of_guest == "web"
    assert copy_in("virtnbdbackup -dweb -o /b\n").of_guest == "web"
    assert copy_in("virtnbdbackup -o /b\n").of_guest == UNKNOWN
    assert copy_in("cp /x /b\n").of_guest is None


@pytest.mark.parametrize(
    ("command", "left_out"),
    [
        ("tar -cf /b /images", False),
        ("tar -cf /b --exclude=*.qcow2 /images", True),
        ("tar -cf /b --exclude web.qcow2 /images", True),
        ("tar -cf /b --exclude=images /images", True),
        ("tar -cf /b --exclude=/images /images", True),
        ("tar -cf /b --exclude=images/web.qcow2 /images", True),
        ("tar -cf /b --exclude=images/ /images", True),
        ("tar -cf /b --exclude=im*.qcow2 /images", True),
        ("tar -cf /b --exclude=*.img /images", False),
        ("tar -cf /b --exclude=$X /images", None),
        ("tar -cf /b -X /list /images", None),
        ("tar -cf /b --exclude-from=/list /images", None),
        ("tar -cf /b -X /list --exclude=web.qcow2 /images", True),
        ("tar -cf /b -T /list", None),
        ("borg create repo::now /images", False),
        ("borg create -e x repo::now /images", None),
        ("borg create --exclude-from x repo::now /images", None),
        ("restic backup --exclude=x /images", None),
        ("cp -r /images /b", False),
    ],
)
def test_images_that_a_command_leaves_out(command: str, left_out: bool | None) -> None:  # noqa: FBT001
    assert copy_in(f"{command}\n").skips("/images", "/images/web.qcow2") is left_out


def test_a_list_of_files_is_not_known() -> None:
    assert copy_in("tar -cf /b -T /list /x\n").sources == (UNKNOWN, "/x")


@pytest.mark.parametrize(
    ("command", "is_hard_link"),
    [("cp -al /b/1 /b/2", True), ("cp -a --link /b/1 /b/2", True), ("cp -a /b/1 /b/2", False)],
)
def test_generations_of_hard_links(command: str, *, is_hard_link: bool) -> None:
    steps = steps_of(read_shell(f"{command}\n"))
    assert steps.links_generations is is_hard_link
    assert any(isinstance(step, Copy) for step in steps.all) is not is_hard_link


# Snapshots and other names --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "snapshots", "is_still"),
    [
        ("lvcreate -s -n snap /dev/vg/mail", [("/dev/vg/mail", "/dev/vg/snap")], True),
        ("lvcreate -L 1G -sn snap vg/mail", [], True),
        ("lvcreate --snapshot --name snap -L 5G vg/mail", [("/dev/vg/mail", "/dev/vg/snap")], True),
        ("lvcreate -s -n vg/snap /dev/mapper/vg-mail", [("/dev/mapper/vg-mail", "/dev/vg-mail/snap")], True),
        ("mount -o ro /dev/vg/snap /mnt", [("/dev/vg/snap", "/mnt")], False),
        ("mount --bind images /mnt", [("/work/images", "/mnt")], False),
        ("ln -s /images /b/now", [("/images", "/b/now/images"), ("/images", "/b/now")], False),
        ("ln -s /x /y /b/", [("/x", "/b/x"), ("/y", "/b/y")], False),
        ("ln -s", [], False),
        ("cp -al /b/1 /b/2", [("/b/1", "/b/2/1"), ("/b/1", "/b/2")], False),
        ("qemu-nbd --connect=/dev/nbd0 -f qcow2 /x", [("/x", "/dev/nbd0")], False),
        ("qemu-nbd -c /dev/nbd0 /x", [("/x", "/dev/nbd0")], False),
        ("qemu-nbd -d /dev/nbd0", [], False),
        ("losetup /dev/loop0 /x", [("/x", "/dev/loop0")], False),
        ("losetup -f", [], False),
        ("btrfs subvolume snapshot -r /images /snap", [("/images", "/snap"), ("/images", "/snap/images")], True),
        ("btrfs sub snap /images/ /snap/", [("/images/", "/snap/"), ("/images/", "/snap/images")], True),
        ("btrfs subvolume snapshot /images", [], True),
        ("mv /x /b", [("/x", "/b")], True),
    ],
)
def test_other_names_of_images(command: str, snapshots: list[tuple[str, str]], *, is_still: bool) -> None:
    found = [step for step in steps_in(f"{command}\n") if isinstance(step, Snapshot)]
    assert [(step.origin, step.path) for step in found] == snapshots
    assert all(step.still is is_still for step in found)


@pytest.mark.parametrize("command", ["lvcreate -s /dev/vg/mail", "lvcreate -s -n snap"])
def test_a_snapshot_of_a_volume_that_is_not_known_is_told(command: str) -> None:
    assert "lvcreate" in unread_in(f"{command}\n")


# Guests that are stopped ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "kind", "path"),
    [
        ("systemctl stop libvirt-guests", "hold", ""),
        ("systemctl stop nginx libvirt-guests.service", "hold", ""),
        ("systemctl -M x stop libvirt-guests", "hold", ""),
        ("service libvirt-guests stop", "hold", ""),
        ("/usr/lib/libvirt/libvirt-guests.sh stop", "hold", ""),
        ("/usr/libexec/libvirt-guests.sh start", "release", ""),
        ("systemctl start libvirt-guests", "release", ""),
        ("service libvirt-guests restart", "release", ""),
        ("fsfreeze -f /images", "hold", "/images"),
        ("xfs_freeze --freeze images", "hold", "/work/images"),
        ("fsfreeze -u /images", "release", ""),
        ("fsfreeze --unfreeze /images", "release", ""),
        ("kill -STOP 7", "hold", ""),
        ("pkill -SIGSTOP qemu", "hold", ""),
        ("kill -19 7", "hold", ""),
        ("killall -s TSTP qemu", "hold", ""),
        ("kill -CONT 7", "release", ""),
        ("kill -18 7", "release", ""),
    ],
)
def test_commands_that_stop_all_guests(command: str, kind: str, path: str) -> None:
    (step,) = steps_in(f"{command}\n")
    assert isinstance(step, Hold if kind == "hold" else Release)
    assert step.guests == ()
    if isinstance(step, Hold):
        assert step.path == path
        assert bool(step.doubt) is ("kill" in command)


def test_a_wait_is_a_step() -> None:
    (step,) = steps_in("wait\n")
    assert isinstance(step, Wait)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("systemctl start backup-images", "backup-images"),
        ("systemctl restart nightly-sync.service", "nightly-sync.service"),
        ("service borgmatic start", "borgmatic"),
        ("systemctl start $UNIT", "…"),
    ],
)
def test_a_unit_that_may_copy_is_told(command: str, words: str) -> None:
    assert words in unread_in(f"{command}\n")


# Other programs and machines ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/opt/acme/guard --all", "/opt/acme/guard"),
        ("acme-guard", "acme-guard"),
        ("$PROGRAM -a /x /b", "which program"),
        ("docker run backup", "container"),
        ("rsnapshot daily", "/etc/rsnapshot.conf"),
        ("ansible-playbook /x.yml", "Ansible"),
        ("python3 /opt/copy.py", "/opt/copy.py, a program in Python"),
        ("perl -e 'system(\"x\")'", "Perl"),
        ("php /opt/copy.php", "PHP"),
        ("qemu-img dd if=/x of=/b", "qemu-img dd"),
    ],
)
def test_a_program_that_is_not_judged_is_told(command: str, words: str) -> None:
    assert words in unread_in(f"{command}\n")


def test_a_password_among_the_words_of_a_program_is_not_told() -> None:
    told = unread_in("acme-guard --password hunter2 --all\n")
    assert "acme-guard" in told
    assert "hunter2" not in told


def test_words_without_end_are_cut() -> None:
    assert len(unread_in(f"acme-guard {'x ' * 5000}\n")) < 200


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("rsync", True),
        ("rsync-3.4", True),
        ("cp", True),
        ("gzip", True),
        ("echo", True),
        ("docker", True),
        ("sudo", True),
        ("bash", True),
        ("python3.11", True),
        ("backup.sh", False),
        ("", False),
    ],
)
def test_a_program_that_is_known_is_not_looked_into(name: str, *, known: bool) -> None:
    assert is_known(name) is known


def test_a_copy_on_another_machine_is_not_judged_here() -> None:
    (step,) = steps_in("ssh kvm2 'cp /x /b'\n")
    assert isinstance(step, NotUnderstood)
    assert not step.may_hold
    assert "kvm2" in step.text


def test_a_guest_that_is_stopped_from_another_machine_may_be_this_one() -> None:
    (step,) = steps_in("ssh kvm2 'systemctl stop libvirt-guests'\n")
    assert isinstance(step, Hold)
    assert "kvm2" in step.doubt
    assert steps_in("ssh kvm2 'systemctl start libvirt-guests'\n") == []


@pytest.mark.parametrize("command", ["poweroff", "shutdown -h now", "halt"])
def test_a_machine_that_is_shut_down_by_ssh_may_be_the_guest(command: str) -> None:
    (step,) = steps_in(f"ssh web '{command}'\n")
    assert isinstance(step, Hold)
    assert step.doubt
    assert (step.guests, step.path) == ((), "/")


# The order ------------------------------------------------------------------------------------


def test_steps_come_in_the_order_in_which_they_run() -> None:
    text = "virsh suspend web\nacme\nbash /gone\ncat /x | gzip > /b\ncp /y /b\nbash /last\n"
    kinds = [type(step).__name__ for step in steps_in(text)]
    assert kinds == ["Hold", "NotUnderstood", "NotUnderstood", "Copy", "Copy", "NotUnderstood"]


def test_a_pipeline_that_copies_is_one_step() -> None:
    (step,) = steps_in("dd if=/x bs=1M | pv | dd of=/b conv=sparse\n")
    assert isinstance(step, Copy)
    assert step.target == "/b"


def test_a_dd_that_ends_another_pipeline_writes_what_is_not_known() -> None:
    copy = copy_in("acme | dd of=/b < /x\n")
    assert (copy.tool, copy.sources, copy.target) == ("dd", ("/x",), "/b")
