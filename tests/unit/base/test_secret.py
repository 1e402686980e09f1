"""Secrets are taken out of text however they are written; what only looks like one stays."""

from __future__ import annotations

import time

import pytest
from markupsafe import Markup

from reclaim.base.secret import MARK, names_secret, redacted, redacted_arguments
from reclaim.base.text import LIMIT, printable
from reclaim.base.verdict import ChangeRecord, Judgement, Result, Verdict

S = "Zq7Hunter2xW"

SECRETS = [
    # addresses
    f"ssh://root:{S}@kvm1",
    f"ssh://root:p@{S}@kvm1",
    f"ssh://root:pa/{S}@kvm1,ssh://root:{S}@kvm2",
    f"root:{S}@kvm1",
    f"cannot connect: qemu+ssh://u:{S}@kvm1/system?keyfile=/k",
    f"qemu+ssh://u@kvm1/system?command=sshpass%20-p%20{S}",
    f"qemu+libssh2://u@kvm1/system?password={S}&mode=legacy",
    f"https://{S}@github.example/x",
    f"https://h:8443/a?X-Amz-Signature={S}&x=1",
    f"rsync://backup:{S}@nas/images",
    f"netroot=iscsi:u:{S}@192.0.2.4::3260:1:iqn",
    f"netroot=iscsi:u:{S}:ru:{S}@192.0.2.4::3260:1:iqn",
    # mount options, fstab
    f"//srv/x /mnt cifs user=a,pass={S},uid=0",
    f"//srv/x /mnt cifs user=a,password2={S},uid=0",
    f"//srv/x /mnt cifs username=a%{S},uid=0",
    f":/ /c ceph name=a,secret={S},_netdev",
    f"http://u:{S}@h/ /d davfs",
    f"u:{S}@h:/ /d fuse.sshfs",
    f"mount error: password={S}: not a valid option",
    f"rd.iscsi.password={S}: reclaim does not know that program",
    f"pass={S}: No such file",
    # variables, units, configuration
    f"export RSYNC_PASSWORD={S}",
    f"RESTIC_PASSWORD='{S} a'",
    f'BORG_PASSPHRASE="{S} \\" {S}"',
    f'BORG_PASSCOMMAND="echo {S}"',
    f"PGPASSWORD={S} pg_dump",
    f"MYSQL_PWD={S}",
    f"AWS_SECRET_ACCESS_KEY={S}",
    f"AWS_ACCESS_KEY_ID={S}",
    f"AWS_SESSION_TOKEN={S}",
    f"OS_PASSWORD = {S}",
    f'Environment="API_KEY={S} q"',
    f'psk="{S}"',
    f"wpa-psk={S}",
    f"chpasswd: password: {S}",
    f'"password": "{S}"',
    f"auth_token: {S}",
    f"ConnectionString=Server=x;AccountKey={S}==",
    f"node.session.auth.password = {S}",
    f"key = {S}==",
    f"machine h login l password {S}",
    # boot loaders, hashes
    f"password root {S}",
    f"update-grub: line 3: password root {S}",
    f"password_pbkdf2 root grub.pbkdf2.sha512.10000.{S}",
    f"root:$6$salt${S}:19000",
    f"root:$y$j9T$salt${S}",
    # commands
    f"sshpass -p {S} rsync",
    f"sshpass -p{S} rsync",
    f"sshpass -p '{S} x' rsync",
    f"plink -batch -pw {S} backup-host",
    f"pscp -pw {S} a host:b",
    *(f"{name}={S}" for name in ("SMTPPASS", "MAILPASS", "DB_PASS", "PW", "PASSWORT")),
    f"mysqldump -uroot -p'{S}' db",
    f"mysql -p{S} db",
    f"curl -u bob:{S} x",
    f"curl -fsS --user bob:{S} x",
    f"curl -H 'Authorization: Bearer {S}' x",
    f'curl -H "X-Auth-Token: {S}" x',
    f"tool --password={S}",
    f"tool --password {S} x",
    f"tool --api-token '{S}'",
    f"openssl enc -pass pass:{S}",
    f"openssl enc -k {S}",
    f'cat <<< "{S}"',
    f"echo {S} | sudo -S true",
    f"printf %s {S} | cryptsetup open",
    f"smbclient //h/s -U a%{S}",
    f"lftp -u a,{S} h",
    f"ldapsearch -w {S} -D x",
    f"redis-cli -a {S} save",
    f"ipmitool -H h -P {S} x",
    f"snmpget -v2c -c {S} h",
    f"zip -P {S} x",
    f"sshpass -vp {S} rsync",
    f"curl -sSfu bob:{S} x",
    f"curl -u bob:{S} --proxy-user carol:{S} x",
    f"curl -b 'sid={S}' x",
    f"curl --cookie sid={S} x",
    f"curl --cert /x.pem:{S} x",
    f"snmpset -v3 -A {S} -X {S} h",
    f"cryptsetup open --key-file <(echo -n {S}) /dev/x y",
    f"sshpass -f <(printf '%s' '{S}') ssh h",
    f"echo {S} | rsync --password-file=- a b",
    f"echo {S}|zfs load-key tank/x",
    f"echo {S} | docker login --password-stdin",
    f"zip -rP {S} a b",
    f"rar a -hp{S} x",
    f"rbd --key {S} map x",
    f"net rpc -U u%{S}",
    f"ncftpput -u u -p {S} h",
    f"mosquitto_pub -u u -P {S} -t t",
    f"swaks -au u -ap {S}",
    f"useradd -m -p {S} u",
    f"htpasswd -bc /f u {S}",
    f"virsh secret-set-value 1-2 {S}",
    f"virsh secret-set-value --secret 1-2 --base64 {S}",
    f"virsh set-user-password web root {S}",
    f"vault login {S}",
    f"kubectl create secret generic x --from-literal=p={S}",
    f"nmcli con mod x wifi-sec.psk {S}",
    f"iscsiadm -m node -o update -n node.session.auth.password -v {S}",
    f"iscsiadm --mode node --name=node.session.auth.password_in --value={S}",
    f"incominguser u {S}",
    f"outgoinguser u '{S}'",
    f"expect -c 'send \"{S}\\r\"'",
    # settings
    f"password {S}",
    f"PASSWORD\t{S}",
    f"bindpw {S}",
    f"rootpw {S}",
    *(f"{name}={S}" for name in ("dbpw", "secretkey", "CREDS", "kennwort", "luks_pin", "mot_de_passe", "contraseña")),
    f"bindcredentials: {S}",
    f"ldap_default_authtok = {S}",
    f'{{"driver":"rbd","key":"{S}"}}',
    f"{{'auth': '{S}'}}",
    # addresses that are the secret
    f"https://hooks.slack.com/services/T0/B0/{S}",
    f"https://discord.com/api/webhooks/1/{S}",
    f"https://api.telegram.org/bot1:{S}/sendMessage",
    # headers
    f"Authorization: Basic {S}==",
    f"Proxy-Authorization: Digest {S}",
    f"Cookie: session={S}; x",
    f"got 401 for Bearer {S}.x",
    # libvirt's and QEMU's
    f"<graphics type='vnc' passwd='{S}' port='1'/>",
    f'<x PassWord = "{S}"/>',
    f"<cookie name='a'>{S}</cookie>",
    f'<source query="token={S}"/>',
    f"runs on name=/x protocol=https query={S}",
    f"qemu: -object secret,id=a,data={S},format=raw",
    f"json:{{'file.password':'{S}'}}",
    # by their shape
    "the key ghp_16C7e42F292c6912E7710c838347Ae178B4a",
    "glpat-abcdefghij0123456789",
    "xoxb-123456789012-abcdefghij",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "AQBSdFhcX5JkBRAA7UvXu1WFVwRwTq1lLWZ4Hg==",
    f"-----BEGIN OPENSSH PRIVATE KEY-----\n{S}\n-----END OPENSSH PRIVATE KEY-----",
    f"-----BEGIN RSA PRIVATE KEY-----\n{S}",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_not_shown(text: str) -> None:
    shown = redacted(text)
    assert MARK in shown
    if S in text:
        assert S not in shown
    assert redacted(shown) == shown


@pytest.mark.parametrize("text", SECRETS)
def test_none_of_it_gets_into_a_row(text: str) -> None:
    shown = redacted(text)
    row = Result("disk-bus", "A title", "kvm1", "web", None, None, Verdict.ERROR, text, text)
    assert (row.reason, row.evidence) == (shown, shown)
    row.take(Judgement(Verdict.ERROR, f"could not look: {text}", text))
    row.reason += f"; {text}"
    row.changes.append(ChangeRecord("command", text, f"-{text}\n+{text}"))
    if S in text:
        assert S not in str(row.to_json())
        assert S not in printable(text)


@pytest.mark.parametrize(
    "text",
    [
        "ssh://root@kvm1",
        "ssh://root@kvm1:22",
        "ssh://root@kvm1:22,ssh://root@kvm2",
        "root@kvm1:2222,root@kvm2:22,ssh://kvm3",
        "ssh://root@127.0.0.1:1,ssh://root@127.0.0.3:1",
        "ssh://root@kvm1?ssh_config=/etc/reclaim/ssh_config&ssh_identity_file=/root/.ssh/fleet",
        "qemu+ssh://root@kvm1/system?keyfile=/root/.ssh/id&no_verify=1",
        "qemu+tls://kvm1:16514/system",
        "qemu+ext:///system?command=/usr/local/bin/through%20host",
        "qemu+ssh://root@kvm1/system?netcat=/usr/bin/nc&socket=/run/x",
        "test:///srv/a.xml",
        "qemu:///system?socket=/run/other",
        "https://libvirt.org/formatdomain.html#hard-drives",
        "/dev/sda1 / ext4 data=ordered,discard 0 1",
        "rd.luks.key=/etc/key rd.luks.uuid=1 ip=dhcp",
        "//srv/x /mnt cifs credentials=/etc/cifs.cred,ro",
        "RESTIC_PASSWORD_FILE=/etc/restic.pw",
        "rsync --password-file=/etc/rsync.pw -a",
        "line 3: rsync: backup@nas:/images is the target",
        "systemd-fsck@dev-disk-by\\x2duuid-1.service: failed",
        "ssh -p 22 host",
        "docker run -p 8080:80 x",
        "mkdir -p /x; rsync -aHAX --partial /x /y",
        "keyboard=de monkey=1 bypass=1 compass:north",
        "12:30 user@host",
        "passed: 3",
        "sudo asks for a password: allow it in the guest (sudoers: bob ALL=(ALL) NOPASSWD: ALL)",
        "inventory /x: ssh.0.password: there is no such key: see the inventory in README.md",
        "printf 'grub-pc x multiselect %s\\n' '/dev/vda' | debconf-set-selections",
        "UUID=aaaa-1 / ext4 errors=remount-ro 0 1",
        "/dev/mapper/luks-1234 /dev/disk/by-id/dm-uuid-LVM-TwLyaSBTzQ",
        "/etc/passwd: Not a directory",
        "cat: /srv/token: Permission denied",
        "/etc/passwd: its name fits no disk",
        "password required",
        "sudo: a password is required",
        "ssh: it wants a password, and none was given",
        "passphrase-file /etc/x",
        "curl -fsS https://h/x",
        "echo done | tee /x",
        "kernel/drivers/pinctrl=x spin=1",
        "send the report",
        "the key 'disk' is unknown",
        "{'keys': 3}",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_what_stands_around_a_secret_stays() -> None:
    assert redacted(f'{{"a": {{"password": "{S}"}}}} (x)') == f'{{"a": {{"password": "{MARK}"}}}} (x)'
    assert redacted(f"user=a,pass={S},uid=0 0 0") == f"user=a,pass={MARK},uid=0 0 0"
    assert redacted(f"A_TOKEN='{S}'\"{S}\"{S} next") == f"A_TOKEN={MARK} next"


def test_of_several_hosts_each_is_still_named() -> None:
    shown = redacted(f"ssh://root:{S}@kvm1,ssh://root:{S}@kvm2")
    assert shown == f"ssh://root:{MARK}@kvm1,ssh://root:{MARK}@kvm2"
    shown = redacted(f"ssh://root:{S}@kvm1:22,ssh://root:{S}@kvm2:22,ssh://kvm3")
    assert S not in shown
    assert all(name in shown for name in ("kvm1", "kvm2", "kvm3"))


def test_a_command_line_keeps_what_is_no_secret() -> None:
    given = ["checks/", "--hosts", f"ssh://root:{S}@kvm1", "--metadata", "api_token", S, "--metadata", "rack", "7"]
    shown = [
        "checks/",
        "--hosts",
        f"ssh://root:{MARK}@kvm1",
        "--metadata",
        "api_token",
        MARK,
        "--metadata",
        "rack",
        "7",
    ]
    assert redacted_arguments(given) == shown


@pytest.mark.parametrize("name", ["--password", "API_TOKEN", "passwd", "db_pass", "key", "auth", "clientSecret"])
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)


@pytest.mark.parametrize("name", ["--password-file", "keyboard", "Packages", "compass", "BUILD_URL", "--token-path"])
def test_names_of_other_things(name: str) -> None:
    assert not names_secret(name)


def test_a_secret_at_the_end_of_what_is_shown_is_known_as_one() -> None:
    text = "x " * (LIMIT // 2 - 10) + f"ssh://root:{S * 40}@kvm1"
    assert S[:5] not in printable(text)


BLOCKS = sorted(
    {
        *("a:", "://a:", "@", "pass=", "password", "--password ", "key=", "user=a%", "AQ", "eyJ", "eyJaaaaaaaa."),
        *("http://", "<password>", "login a ", "password a ", "echo ", "curl ", "sshpass -p", "$1$", "authorization:"),
        *(
            "<<<",
            'pass="',
            "pass='\\",
            'pass="\\',
            "pass_",
            "pass.",
            "data=",
            " -p",
            "-----BEGIN PRIVATE KEY-----",
            "bearer ",
        ),
        *("x-a:", "cookie:", "<secret ", "query=", "a://b?", "a://b?c&", "grub.pbkdf2.", "pass: ", "pass:a,", "pass=;"),
        *("mysql ", "7z -p", "token\t", "gh", "sk-", "hvs.", "xoxb-", "secret]", "user=", "=", ":", '"', "'", "\n"),
    }
)


@pytest.mark.slow
@pytest.mark.parametrize("end", ["", "@", "|", "=", "://", "password=", "\n"])
def test_hostile_text_takes_time_by_its_length(end: str) -> None:
    """CPU seconds: of 60,000 characters of one block each, all blocks; by the square it would be hours."""
    began = time.process_time()
    for block in BLOCKS:
        redacted((block * 60_000)[:60_000] + end)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (["--notify", "/usr/bin/hook my-topic", "-q"], ["--notify", MARK, "-q"]),
        (["-q", "--notify=/usr/bin/hook my-topic"], ["-q", f"--notify={MARK}"]),
        (["--notify"], ["--notify"]),
    ],
)
def test_the_command_of_a_notice_is_not_shown(given: list[str], shown: list[str]) -> None:
    assert redacted_arguments(given) == shown


def test_texts_that_are_remembered_are_as_those_that_are_not() -> None:
    for text in (f"pass={S}", "pass=" + S * 40):
        assert redacted(text) == redacted(text)
        assert S not in redacted(text)


def test_a_text_that_is_remembered_is_no_markup() -> None:
    """One that is equal, but is safe in HTML: the other must be escaped all the same."""
    assert type(redacted(Markup("a <b>"))) is Markup
    assert type(redacted("a <b>")) is str
