"""How far logs are known to have been looked through: all beacons up to then that the CDN delivered in time are read.

Belongs here: the mark itself, kept in the lake, so that whoever computes reports anew from it finds the same. Does not
belong here: looking through the logs (``receipts``), what a report says because of it (``reports``).

The mark is of all sources together. It is the name of a file, and the greatest such name counts: two that move it
at once need no lock, on a folder and on S3 alike, and it never goes back; but where a clock that was ahead has set it.
"""

from datetime import UTC, datetime
from typing import Final

from notify_pipeline.core.lake import Lake

FOLDER: Final = "log_watermark"
_SUFFIX: Final = ".mark"
# Names sort as the moments do.
_NAME: Final = "%Y-%m-%dT%H-%M-%S-%fZ"


def read(lake: Lake) -> datetime | None:
    """Return the mark, None as long as nobody has looked through the logs."""
    return max(_marks(lake).values(), default=None)


def advance(lake: Lake, through: datetime) -> datetime:
    """Move the mark to a moment, unless it is there or beyond already.

    Args:
        lake: Keeps it.
        through: An aware moment: every log file with beacons up to then that was delivered in time has been processed.

    Returns:
        The mark as it is now.
    """
    through = through.astimezone(UTC)
    marks = _marks(lake)
    latest = max(marks.values(), default=None)
    if latest is not None and latest >= through:
        return latest
    name = through.strftime(_NAME)
    lake.write_bytes(f"{FOLDER}/{name}{_SUFFIX}", f"{name}\n".encode())
    # Only lesser ones: whatever another process wrote meanwhile stays if it says more.
    lake.delete(marks)
    return through


def take_back(lake: Lake, after: datetime) -> None:
    """Forget what is beyond a moment. What lay before that is not known any more, so logs are looked through anew.

    Args:
        lake: Keeps it.
        after: The present: a mark beyond it was set by a clock that was ahead.
    """
    lake.delete(path for path, mark in _marks(lake).items() if mark > after)


def _marks(lake: Lake) -> dict[str, datetime]:
    """Return the moments by path; names that are none are not ours."""
    found = {}
    for file in lake.list(FOLDER, suffix=_SUFFIX):
        name = file.path.rpartition("/")[2].removesuffix(_SUFFIX)
        try:
            found[file.path] = datetime.strptime(name, _NAME).replace(tzinfo=UTC)
        except ValueError:
            continue
    return found
