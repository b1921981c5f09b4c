"""Writes to a store and says so, in a fresh process for every folder that is named on standard input.

Forked from one that has imported everything. Lines on standard output: `pid P` when the process starts, `ready` when
its store is open, the number of each write once it is acknowledged, and `dead` when the process has ended.
"""

import asyncio
import os
import sys
import zlib
from pathlib import Path

from swarmkernel_store_sql import Settings, open_store


def say(text: str) -> None:
    """One write to the pipe, so that a killed process says all or nothing."""
    os.write(1, f"{text}\n".encode())


def payload(number: int) -> str:
    """Some text that only this number has, from a few bytes to a few pages long."""
    return f"{zlib.crc32(str(number).encode()):08x}" * (1 + number * 37 % 1500)


async def main(folder: Path) -> None:
    """Write for ever: a put, a transaction of two puts, an update of one counter."""
    async with open_store(Settings(), folder) as store:
        texts, pairs, counter = (
            store.collection(*of) for of in (("texts", str), ("pairs", str), ("counter", int))
        )
        number = await counter.get("count") or 0
        say("ready")
        while True:
            number += 1
            await texts.put(f"{number:09}", payload(number))
            async with store.transaction():
                await pairs.put(f"a{number:09}", payload(number))
                await pairs.put(f"b{number:09}", payload(number))
            await counter.update("count", lambda old: (old or 0) + 1)
            say(str(number))


if __name__ == "__main__":
    for line in sys.stdin:
        child = os.fork()
        if not child:
            asyncio.run(main(Path(line.strip())))
        say(f"pid {child}")
        os.waitpid(child, 0)
        say("dead")
