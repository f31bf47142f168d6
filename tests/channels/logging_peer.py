"""A peer as a process of its own, to be killed: writes down every request before it answers.

Run as ``python -m tests.channels.logging_peer <certificate folder> <log file>``; prints its address.
"""

import asyncio
import os
import sys
from pathlib import Path

from tests.channels.peer import Reply, Seen, running_peer


async def main(folder: Path, log: Path) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def script(seen: Seen) -> Reply:
        os.write(fd, f"{seen.path}\n".encode())
        return Reply(delay_s=0.005)

    async with running_peer(folder, script) as peer:
        print(peer.url, flush=True)
        await asyncio.sleep(120)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
