#!/usr/bin/env bash
# Set-up for `make audit`, `make quick` and `make test`: what is missing and nothing else, said before it is done.
#   setup.sh audit   Python, libvirt's binding, the venv
#   setup.sh quick   the venv with the linters; nothing through apt, and nothing at all if the venv is there
#   setup.sh test    that, the linters, what real guests need, and what the report is tested with
#   setup.sh bench   that, and the programs that python -m bench compares reclaim with
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?audit, quick, test or bench}
base=(python3 python3-venv python3-libvirt)
# lab/host.py names the tools that these bring
guests=(
    qemu-system-x86 qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu
    mmdebstrap debian-archive-keyring e2fsprogs fdisk rsync btrfs-progs xfsprogs lvm2 ovmf acl patch procps
)
# ssh into guests is tested on a real sshd; where a service manager runs, its package would open this machine to the network
sshd=(openssh-client sudo fish tcsh)
[ -d /run/systemd/system ] || sshd+=(openssh-server)
# the alert rules are tested by promtool; where a service manager runs, its package would start a server
monitoring=()
[ -d /run/systemd/system ] || monitoring+=(prometheus)
# hypervisors in network namespaces (lab.netns.site names the tools)
fleet=(iproute2 openssh-client util-linux)
# the report is tested in a browser, by driver; its HTML and its accessibility by packages of npm
browser=(chromium chromium-driver)
web=tests/browser
# what reclaim is measured beside (bench/topics)
peers=()
if [ "$kind" = bench ]; then
    peers=(virtinst libxml2-utils)
    kind=test
fi
# a venv that has these runs the quick tests, whatever it was made for: then there is no need of a network
quick="libvirt, pytest, testinfra, lxml, pytest_html, pydantic, jinja2, tree_sitter_bash, yaml, prometheus_client, \
hypothesis, jsonschema, ruff"
# the distribution's own: another interpreter does not see the distribution's libvirt binding
python=${RECLAIM_PYTHON:-/usr/bin/python3}
venv=.venv
# Python with venv, and libvirt's binding for it, by the names of each package manager
declare -A packages=(
    [apt-get]="apt-get install --no-install-recommends python3 python3-venv python3-libvirt"
    [dnf]="dnf install python3 python3-libvirt"
    [zypper]="zypper install python3 python3-libvirt-python"
    [pacman]="pacman -S --needed python libvirt-python"
    [apk]="apk add python3 py3-libvirt"
)

say() { echo "setup: $*"; }
fail() {
    echo "setup: $*" >&2
    exit 1
}

# the command that installs what reclaim needs on this machine
hint() {
    local manager
    for manager in apt-get dnf zypper pacman apk; do
        if command -v "$manager" >/dev/null; then
            echo "${packages[$manager]}"
            return
        fi
    done
    echo "your distribution's packages of Python, its venv, and libvirt's Python binding"
}

# before anything is installed: no package of an older distribution helps
expect_version() {
    local version="" name
    if [ -x "$python" ]; then
        version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
    elif [ "$python" = /usr/bin/python3 ] && command -v apt-cache >/dev/null; then
        # without package lists apt knows no version, and that is no fault
        version=$({ apt-cache show python3 2>/dev/null || true; } | sed -n '/^Version: /{s/^Version: \([0-9.]*\).*/\1/p;q}')
    fi
    [ -n "$version" ] || return 0
    case $version in 3.[0-9] | 3.[0-9].* | [012].*) ;; *) return 0 ;; esac
    name=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\).*/\1/p' /etc/os-release 2>/dev/null || true)
    fail "reclaim needs Python 3.10 or newer, and $python${name:+ of $name} is $version: set RECLAIM_PYTHON to a newer one that" \
        "can import libvirt, or run reclaim on a newer machine with --hosts ssh://root@$(uname -n); nothing was installed"
}

absent() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
    done
}

# those of these packages that this distribution has
offered() {
    local package
    for package in "$@"; do
        if apt-cache show "$package" >/dev/null 2>&1; then echo "$package"; fi
    done
}

may_install() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || { command -v sudo >/dev/null && [ -t 0 ]; }
}

apt_get() {
    local -a root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

has_package_lists() {
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null
}

install() {
    local how="as root"
    [ "$(id -u)" = 0 ] || how="with sudo"
    say "installing system packages through apt, $how, with what they depend on: $*"
    if ! has_package_lists; then
        say "apt has no package lists yet: apt-get update"
        apt_get update
    fi
    if ! apt_get install -y --no-install-recommends "$@"; then
        say "apt-get failed: trying again with fresh package lists"
        apt_get update
        apt_get install -y --no-install-recommends "$@"
    fi
}

system_packages() {
    local -a needed wanted=()
    if ! command -v apt-get >/dev/null; then
        "$python" -c 'import ensurepip, libvirt' 2>/dev/null ||
            fail "$python lacks venv or libvirt's binding: as root, run $(hint), then run this again"
        return
    fi
    mapfile -t needed < <(absent "${base[@]}")
    if [ "$kind" != audit ]; then
        local -a tools=("${browser[@]}")
        command -v npm >/dev/null || tools+=(nodejs npm)
        mapfile -t tools < <(absent "${tools[@]}")
        if [ ${#tools[@]} -gt 0 ] && may_install && ! has_package_lists; then apt_get update; fi
        mapfile -t wanted < <(
            absent "${guests[@]}" "${sshd[@]}" "${fleet[@]}" "${peers[@]}"
            [ ${#monitoring[@]} = 0 ] || absent "${monitoring[@]}"
            [ ${#tools[@]} = 0 ] || offered "${tools[@]}"
        )
    fi
    if [ $((${#needed[@]} + ${#wanted[@]})) = 0 ]; then
        return
    fi
    if may_install; then
        install "${needed[@]}" "${wanted[@]}"
    elif [ ${#needed[@]} -gt 0 ]; then
        fail "system packages are missing, this is not root, and sudo needs a password: as root, run apt-get install --no-install-recommends ${needed[*]}"
    else
        say "not root, and sudo needs a password: the tests that need these are skipped: ${wanted[*]}"
    fi
}

python_packages() {
    local extra="" stamp="$venv/.setup-$kind" state
    [ "$kind" = audit ] || extra="[test]"
    state="$(sha256sum pyproject.toml setup.py) $("$python" --version) $PWD"
    if [ "$kind" = quick ] && "$venv/bin/python" -c "import $quick" 2>/dev/null; then return; fi
    if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && "$venv/bin/python" -c 'import libvirt, pytest' 2>/dev/null; then
        return
    fi
    if ! "$venv/bin/python" -c 'import libvirt, pip' 2>/dev/null; then
        say "making the virtual environment $venv from $python"
        "$python" -m venv --clear --system-site-packages "$venv"
    fi
    say "installing Python packages into $venv (pyproject.toml${extra:+, with its test tools})"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --editable ".$extra" </dev/null
    echo "$state" >"$stamp"
}

web_packages() {
    local stamp="$web/node_modules/.setup" state
    [ "$kind" != audit ] && command -v npm >/dev/null || return 0
    state="$(sha256sum "$web/package-lock.json")"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$state" ]; then return; fi
    say "installing axe-core and html-validate into $web/node_modules (package-lock.json)"
    npm ci --prefix "$web" --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null
    echo "$state" >"$stamp"
}

# nothing is installed for the quick tests: they run where no root is, and no network
expect_binding() {
    "$python" -c 'import libvirt' 2>/dev/null ||
        fail "$python has no libvirt: as root, run $(hint)"
}

expect_version
if [ "$kind" = quick ]; then
    expect_binding
    python_packages
    exit
fi
system_packages
python_packages
web_packages
