"""A chunk's recipients: by columns as they lie in the shard's file, and as a channel takes them.

Belongs here: that conversion. Does not belong here: reading the file (``shard_file``), calling a channel
(``chunk_sender``).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute  # noqa: F401 - unique() and take() would import it in every step's process instead of once

from notify_pipeline.core.ids import DeliveryIds
from notify_pipeline.core.records import Recipient
from notify_pipeline.core.vocabulary import Platform

_PLATFORMS = {platform.value: platform for platform in Platform}
# Recipient._make without its Python frame, which costs more than the tuple.
_recipient: Any = partial(tuple.__new__, Recipient)


@dataclass(frozen=True, slots=True)
class Recipients:
    """The recipients of one chunk, in its order.

    Attributes:
        rows: Their rows of the shard's file.
        addresses: Their addresses.
        delivery_ids: Their delivery ids.
    """

    rows: pa.Table
    addresses: list[str]
    delivery_ids: list[str]

    @classmethod
    def of(cls, rows: pa.Table, ids: DeliveryIds) -> "Recipients":
        """Convert rows of a shard's file."""
        addresses = rows["recipient"].to_pylist()
        return cls(rows, addresses, ids.of_all(addresses))

    def by_platform(self) -> Iterator[tuple[Platform, Sequence[int]]]:
        """Yield each platform with its recipients' positions: ``range(len(addresses))`` where it is the only one."""
        names = self.rows["platform"]
        platforms = names.unique().to_pylist()
        if len(platforms) == 1:
            yield _PLATFORMS[platforms[0]], range(len(self.addresses))
            return
        each = names.to_pylist()
        for platform in platforms:
            yield _PLATFORMS[platform], [at for at, name in enumerate(each) if name == platform]

    def as_sent(self, platform: Platform) -> list[Recipient]:
        """Return everybody as a channel takes them, on this platform."""
        profile = (_column(self.rows[name]) for name in ("user_id", "locale", "timezone", "app_version"))
        fields = _column(self.rows["fields"]) if "fields" in self.rows.column_names else repeat(None)
        return list(map(_recipient, zip(self.addresses, repeat(platform), *profile, fields, strict=False)))


def pick(items: Sequence[Any], where: Sequence[int]) -> Sequence[Any]:
    """Return the items at these positions; the very same sequence when these are all."""
    return items if len(where) == len(items) else [items[at] for at in where]


def _column(column: pa.ChunkedArray) -> Iterator[str | None]:
    return repeat(None) if column.null_count == len(column) else iter(column.to_pylist())
