"""A client as a process of its own that sends many requests and says how much memory it has.

Run as ``python -m tests.channels.wire.soak <url> <certificate authority> <path> <requests> <rounds>``; prints its
resident KiB after a first round that does not count, and after each round.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from notify_pipeline.channels.transport import Answer, End, Request
from notify_pipeline.channels.wire.transport import WireTransport
from tests.channels.wire.script import HEADERS

# Fills every memo, and the allocator's pools.
WARM = 10_000


def resident_kib() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def main(url: str, ca: str, path: str, count: int, rounds: int) -> None:
    transport = WireTransport(url, ca=Path(ca), max_in_flight=256, timeout_s=60)
    for size in [WARM, *[count] * rounds]:
        left = size

        def on_end(number: int, end: End) -> None:
            nonlocal left
            assert isinstance(end, Answer)
            assert end.status == 200
            left -= 1

        def requests(size: int = size) -> Iterator[Request]:
            for number in range(size):
                yield Request(number, f"{path}?{number}", HEADERS, b"x" * 700)

        await transport.post_many(requests(), on_end)
        assert left == 0
        print(resident_kib(), flush=True)
    await transport.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
