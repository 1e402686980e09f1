"""How this machine reaches Debian's archive, PyPI and npm's registry: another root here needs the same to do so.

Everything is asked of this machine's own tools. Settings that name files of this machine are left out, but for its
certificates, which are copied.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import sources, tools

CERTIFICATES = "/etc/ssl/certs/of-the-host.crt"
"""The path of this machine's certificates in the other root."""

_LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")
_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
#: variables that name a file of certificates, for the tools that run in the other root
_BUNDLE_VARIABLES = (
    "SSL_CERT_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
)
_PROXY = re.compile(r"(https?|ftp|all|no)_proxy", re.IGNORECASE)
_PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
_NPM = ("registry", "proxy", "https-proxy", "noproxy", "strict-ssl")


@dataclass(frozen=True)
class Settings:
    """The environment and the files (path in the other root: content) with which another root reaches the archives."""

    environment: Mapping[str, str]
    files: Mapping[str, bytes]


def settings() -> Settings:
    """Return the settings of this machine. Raises LabError if apt cannot be asked."""
    environment = {
        name: value for name, value in os.environ.items() if _PROXY.fullmatch(name)
    }
    files = {
        "/etc/apt/apt.conf.d/90of-the-host": sources.apt_options().encode(),
        "/etc/pip.conf": _pip(),
        "/root/.npmrc": _npm(),
    }
    if bundle := _certificates():
        environment |= dict.fromkeys(_BUNDLE_VARIABLES, CERTIFICATES)
        files["/etc/apt/apt.conf.d/90of-the-host"] += (
            f'Acquire::https::CaInfo "{CERTIFICATES}";\n'.encode()
        )
        files[CERTIFICATES] = bundle
    for name in ("/etc/resolv.conf", "/etc/hosts"):
        if Path(name).is_file():
            files[name] = Path(name).read_bytes()
    return Settings(environment, files)


def pip_values(listed: str) -> dict[str, str]:
    """Return the settings about the way to the index, of `pip config list`, without places of this machine."""
    kept = {}
    for line in listed.splitlines():
        name, _, quoted = line.partition("=")
        # `:env:.` is what the environment sets, and listed after the files
        setting = name.rpartition(".")[2]
        remote = [word for word in quoted.strip("'\"").split() if not _is_local(word)]
        if setting in _PIP and remote:
            kept[setting] = " ".join(remote)
    return kept


def npm_values(listed: str) -> dict[str, str]:
    """Return the settings about the way to the registry, of `npm config list --json`."""
    try:
        known = json.loads(listed)
    except ValueError:
        return {}
    if not isinstance(known, dict):
        return {}
    kept = {}
    for name in _NPM:
        value = known.get(name)
        if isinstance(value, list):
            value = ",".join(str(one) for one in value if one)
        if isinstance(value, bool):
            value = str(value).lower()
        if value:
            kept[name] = str(value)
    return kept


def _is_local(word: str) -> bool:
    return word.startswith(("/", "~", "file:", "."))


def _pip() -> bytes:
    done = tools.run([sys.executable, "-m", "pip", "config", "list"], seconds=60)
    lines = [f"{name} = {value}\n" for name, value in pip_values(done.stdout).items()]
    return "".join(["[global]\n", *lines]).encode()


def _npm() -> bytes:
    done = tools.run(
        ["sh", "-c", "! command -v npm >/dev/null || npm config list --json"],
        seconds=60,
    )
    return "".join(f"{k}={v}\n" for k, v in npm_values(done.stdout).items()).encode()


def _certificates() -> bytes:
    """Return all authorities that this machine trusts, in one file; nothing if it has none."""
    named = [os.environ.get(name) for name in _BUNDLE_VARIABLES]
    known = ssl.get_default_verify_paths().cafile
    places = [Path(name) for name in (*named, known, _BUNDLE) if name]
    bundle = next((place for place in places if place.is_file()), None)
    parts = [] if bundle is None else [bundle]
    parts += sorted(_LOCAL_AUTHORITIES.glob("**/*.crt"))
    return b"\n".join(part.read_bytes() for part in parts)
