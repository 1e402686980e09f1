"""A slow line, for ssh_config(5): `ProxyCommand python3 line.py HOST PORT SECONDS`. Needs nothing of the project.

Everything arrives in its order and whole, but `SECONDS` later, each way.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

_PIECE = 65536


async def carry(
    source: asyncio.StreamReader, write: Callable[[bytes], None], seconds: float
) -> None:
    """Hand on each piece that `source` gives, until its end."""
    clock = asyncio.get_running_loop().time
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def read() -> None:
        while piece := await source.read(_PIECE):
            pieces.put_nowait((clock() + seconds, piece))
        pieces.put_nowait((clock() + seconds, b""))

    reading = asyncio.create_task(read())
    while True:
        due, piece = await pieces.get()
        await asyncio.sleep(max(0.0, due - clock()))
        if not piece:
            return await reading
        write(piece)


async def main(host: str, port: str, seconds: str) -> None:
    """Connect standard input and output with a port of a host, until one side has come to its end."""
    loop = asyncio.get_running_loop()
    near = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(near), sys.stdin.buffer
    )
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, sys.stdout.buffer)
    far, to_far = await asyncio.open_connection(host, int(port))
    ways = (
        asyncio.create_task(carry(near, to_far.write, float(seconds))),
        asyncio.create_task(carry(far, out.write, float(seconds))),
    )
    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    to_far.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
