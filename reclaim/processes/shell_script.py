"""The scripts that /bin/sh runs in guests and on hypervisors: how each begins, and how it is given its arguments."""

from __future__ import annotations

from importlib.resources import files

#: the folders of programs that are the administrator's and the system's
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: whatever starts the script, it finds the same programs, and they speak one language
HEAD = f"PATH={PATH}\nLC_ALL=C\nexport PATH LC_ALL\n"
#: `say NAME TEXT` prints a line that `storage.host_image.answers` reads
SAY = r"""say() { printf '%s ' "$1"; printf '%s' "$2" | base64 | tr -d '\n'; printf '\n'; }
"""


def load(package: str, name: str) -> str:
    """Return the script in the file *name* of a package of ours."""
    return HEAD + files(package).joinpath(name).read_text(encoding="utf-8")


def command(arguments: int) -> str:
    """Return a command with `%s` for a script and so many arguments, which are its $1 and on."""
    return "/bin/sh -c %s reclaim" + " %s" * arguments
