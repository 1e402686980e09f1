# Builds the Debian package on this machine, installs it, looks at it and uses it without a network, and removes it. Run in
# the checkout by `make hosts`, as root, on a machine that may be changed.
export DEBIAN_FRONTEND=noninteractive
fleet=test://$PWD/lab/samples/fleet.xml
plain=/usr/lib/python3/dist-packages
reports=/var/lib/reclaim/reports

fail() {
    echo "FAILED $*"
    exit 1
}
# the exit status of a command
status() {
    got=0
    "$@" || got=$?
}
apt() {
    apt-get -q -y -o Dpkg::Use-Pty=0 --no-install-recommends "$@" </dev/null
}
# the command, from a folder where others left packages of the same names, and with no network
reclaim() (
    cd /tmp/others
    PYTHONPATH=/tmp/others PYTEST_PLUGINS=loud unshare --net /usr/bin/reclaim "$@"
)

apt update
apt install dpkg-dev lintian
apt -o APT::Get::Build-Dep-Automatic=true build-dep ./
make deb
# the target has what Depends names, and nothing of the build
apt -o APT::AutoRemove::RecommendsImportant=false autoremove --purge
deb=$(ls "$PWD"/dist/reclaim_*.deb)
lintian --allow-root --fail-on error "$deb" || fail "lintian has errors"
apt install "$deb" man-db

others() {
    rm -rf /tmp/others "$plain/loud.py" "$plain/loud-1.dist-info"
    for name in reclaim pytest checks libvirt; do rm -f "$local/$name.py"; done
}
trap others EXIT
local=$(/usr/bin/python3 -c 'import site; print(site.getsitepackages()[0])')
mkdir -p /tmp/others "$local" "$plain/loud-1.dist-info"
for name in reclaim pytest checks libvirt; do
    echo 'raise SystemError' | tee "$local/$name.py" >"/tmp/others/$name.py"
done
echo 'raise SystemError' >"$plain/loud.py"
printf 'Metadata-Version: 2.1\nName: loud\nVersion: 1\n' >"$plain/loud-1.dist-info/METADATA"
printf '[pytest11]\nloud = loud\n' >"$plain/loud-1.dist-info/entry_points.txt"

reclaim --version
reclaim rules disk-bus | grep virtio || fail "no rules"
man reclaim | grep 'make KVM guests give' || fail "no man page"
status reclaim audit --uri "$fleet" --definitions-only
[ "$got" = 1 ] || fail "audit: status $got"
status reclaim fix --uri "$fleet" --definitions-only
ls "$reports"/test-driver/*-fix/journal.jsonl || fail "fix has no journal"
reclaim undo latest
dpkg --verify reclaim >/tmp/changed
[ ! -s /tmp/changed ] || fail "a run changes files of the package: $(cat /tmp/changed)"

# as `reclaim timer install` writes them, for which systemd would have to run
mkdir -p /etc/systemd/system
for unit in reclaim-audit.service reclaim-audit.timer; do
    echo '# Written by `reclaim timer install`. `reclaim timer remove` takes it back.' >/etc/systemd/system/$unit
done
printf '[Service]\nExecStart=/usr/bin/reclaim audit -q\n' >>/etc/systemd/system/reclaim-audit.service
command -v systemctl || apt install systemd

apt remove reclaim
[ ! -e /etc/systemd/system/reclaim-audit.service ] || fail "the schedule is left"
for gone in /usr/bin/reclaim /usr/lib/reclaim /usr/share/man/man1/reclaim.1.gz; do
    [ ! -e "$gone" ] || fail "$gone is still there: $(find "$gone" | head)"
done
apt purge reclaim
ls "$reports"/test-driver/*-fix/journal.jsonl || fail "a purge removes journals"
apt install "$deb"
rm -r "$reports"
apt purge reclaim
[ ! -e /var/lib/reclaim ] || fail "a purge leaves $(find /var/lib/reclaim)"
echo "the package of $(. /etc/os-release && echo "$PRETTY_NAME") does what it should"
