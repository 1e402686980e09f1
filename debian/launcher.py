#!/usr/bin/python3 -BIS
# -I and -S: a command that root runs sees neither PYTHONPATH, nor the user's packages, nor those of /usr/local.
# -B: nothing is written beside the files of the package.
"""The command `reclaim` of the Debian package: its own packages, then those of the distribution."""

import sys
from pathlib import Path

_USR = Path(__file__).resolve().parent.parent
# libvirt's binding, which fits the libvirt of the machine, and the libraries that Depends names
sys.path += [str(_USR / "lib/reclaim"), "/usr/lib/python3/dist-packages"]

from reclaim.entry import main  # noqa: E402 (it lies there)

sys.exit(main())
