"""Finds the segment that a notification lies in.

Belongs here: looking a hash up in segments' sorted arrays of them. Does not belong here: writing those (``segments``),
opening segments (``reading_versions``).

The arrays are mapped into memory: of each, a search touches a few pages.
"""

import hashlib
import mmap
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from notify_pipeline.reports.manifests import Segment

_SUFFIX: Final = ".ids"
# Arrays that stay mapped; each holds a file descriptor. More than ten years of days.
_MAPPED: Final = 4_096


def hash_of(tenant: str, notification_id: str) -> int:
    """Return the hash that segments are searched for; the same as ``segments.HASH``."""
    digest = hashlib.md5(f"{tenant}\0{notification_id}".encode(errors="surrogatepass"), usedforsecurity=False).digest()
    return int.from_bytes(digest[8:], "little")


class Hashes:
    """The arrays below one reports root. Thread-safe."""

    def __init__(self, root: Path) -> None:
        """Open nothing yet."""
        self._root = root
        self._lock = threading.Lock()
        self._mapped: OrderedDict[str, memoryview] = OrderedDict()

    def holding(self, segments: Iterable[Segment], tenant: str, notification_id: str) -> tuple[Segment, ...]:
        """Return the segments that may hold a notification: hardly ever more than the one that does.

        Raises:
            FileNotFoundError: A segment has been pruned.
        """
        wanted = hash_of(tenant, notification_id)
        return tuple(each for each in segments if not each.name or (each.notifications and self._has(each, wanted)))

    def _has(self, segment: Segment, wanted: int) -> bool:
        hashes = self._array(segment.file)
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted

    def _array(self, file: str) -> memoryview:
        with self._lock:
            found = self._mapped.get(file)
            if found is None:
                with (self._root / file).with_suffix(_SUFFIX).open("rb") as opened:
                    found = memoryview(mmap.mmap(opened.fileno(), 0, prot=mmap.PROT_READ)).cast("Q")
                self._mapped[file] = found
                if len(self._mapped) > _MAPPED:
                    self._mapped.popitem(last=False)
            else:
                self._mapped.move_to_end(file)
            return found
