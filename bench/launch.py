"""Run one command, and write its status, seconds and peak memory as JSON to a descriptor.

    python -I -S bench/launch.py DESCRIPTOR COMMAND …

The kernel counts the memory of the process that a command was forked from as the command's own. This process is small:
a peak below its own 9 MiB or so cannot be told from it.
"""

import json
import os
import sys
import time


def main() -> int:
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(descriptor, False)
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
        except OSError as problem:
            os.write(2, f"{command[0]}: {problem.strerror}\n".encode())
        os._exit(127)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - started
    measured = {
        "status": os.waitstatus_to_exitcode(status),
        "wall": wall,
        "cpu": used.ru_utime + used.ru_stime,
        "mebibytes": used.ru_maxrss / 1024,
    }
    os.write(descriptor, json.dumps(measured).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
