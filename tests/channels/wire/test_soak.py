"""Sending on and on in one process: its memory stays as it is."""

import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.channels.wire.servers import Server, needs_nghttpd, needs_nginx, nghttpd, nginx

ROOT = Path(__file__).resolve().parents[3]
# A kept end, or an entry in any table, is 60 bytes and more; a page more here and there is the allocator's.
MOST_BYTES_PER_REQUEST = 20
FREE_KIB = 512


def grown(server: AbstractContextManager[Server], count: int) -> int:
    """KiB by which a client grows in the second of two rounds."""
    with server as running:
        command = [
            sys.executable,
            "-m",
            "tests.channels.wire.soak",
            running.url,
            str(running.ca),
            "/send",
            str(count),
            "2",
        ]
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    sizes = [int(line) for line in done.stdout.split()]
    assert len(sizes) == 3
    return sizes[2] - sizes[1]


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "start", [pytest.param(nghttpd, marks=needs_nghttpd), pytest.param(nginx, marks=[needs_nginx, pytest.mark.long])]
)
def test_memory_does_not_grow(tmp_path: Path, start: object, count: int) -> None:
    """nginx gives each answer an id of its own: a header block that never repeats."""
    assert grown(start(tmp_path), count) <= FREE_KIB + count * MOST_BYTES_PER_REQUEST / 1024  # type: ignore[operator]
