"""The audience base: immutable versions of who is registered, exploded and partitioned by topic.

Belongs here: the layout of a version, reading its index, and building the next one. Does not belong here: the audience
of one send (``audience``).

``audience/current.json`` names the version. A version holds, as plain Parquet:

- ``tenant=<t>/topic=<quoted>/part-*.parquet``: one row per device and topic, as a send wants it. ``topics`` repeats the
  device's whole list, so that a send to several topics can leave out of one what another gives, without a distinct. The
  contacts of a domain are those of ``topic_of_domain``, a topic that nobody can subscribe to.
- ``devices/tenant=<t>/part-*.parquet``: one row per token ever registered, removed ones too: their revisions keep older
  rows from bringing them back.
- ``index.parquet``: which file holds which part; ``folded.parquet``: the landing segments that are in.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import orjson
import polars as pl

from notify_pipeline.core.ids import to_micros
from notify_pipeline.core.lake import Lake
from notify_pipeline.core.vocabulary import RegistrationOp

POINTER = "audience/current.json"
# Columns of a recipient, in the snapshot's order but for the token's name.
PROFILE = ("token", "platform", "user_id", "locale", "timezone", "app_version")
TOPIC_COLUMNS = (*PROFILE, "topics")
DEVICE_COLUMNS = ("tenant", *TOPIC_COLUMNS, "op", "revision", "domain")
DEVICE_SCHEMA = pl.Schema(
    {
        **dict.fromkeys(("tenant", *PROFILE), pl.String()),
        "topics": pl.List(pl.String()),
        "op": pl.String(),
        "revision": pl.Int64(),
        "domain": pl.String(),
    }
)
_INDEX_SCHEMA = pl.Schema({"tenant": pl.String(), "topic": pl.String(), "path": pl.String(), "rows": pl.Int64()})
# File systems allow 255 bytes in a name; a longer quoted topic keeps its head and gets a digest.
_LONGEST_NAME = 200
# Readers decode row groups in parallel and hold a few at a time: small enough for that, large enough to compress.
_ROW_GROUP = 20_000


@dataclass(frozen=True, slots=True)
class Base:
    """One version, as its pointer and index describe it.

    Attributes:
        version: Grows with each rebuild; 0 is the empty base before the first.
        index: tenant, topic (null: the devices files), path, rows.
        folded: Landing segments whose rows are in.
        folded_through: No row in it is younger (microseconds since the epoch): younger rows are certainly news.
        devices: Registered tokens.
    """

    version: int
    index: pl.DataFrame
    folded: frozenset[str]
    folded_through: int
    devices: int

    def topic_files(self, tenant: str, topic: str) -> tuple[list[str], int]:
        """Return the files of one topic and their rows in all."""
        found = self.index.filter((pl.col("tenant") == tenant) & (pl.col("topic") == topic))
        return found["path"].to_list(), int(found["rows"].sum())

    def device_files(self, tenant: str | None = None) -> list[str]:
        """Return the devices files of one tenant, or of all."""
        mine = pl.lit(True) if tenant is None else pl.col("tenant") == tenant
        return self.index.filter(mine & pl.col("topic").is_null())["path"].to_list()


EMPTY = Base(0, pl.DataFrame(schema=_INDEX_SCHEMA), frozenset(), -1, 0)


def current_version(lake: Lake) -> int:
    """Return the version that the pointer names, 0 before the first."""
    return int(orjson.loads(lake.read_bytes(POINTER))["version"]) if lake.exists(POINTER) else 0


def load(lake: Lake) -> Base:
    """Return the base that the pointer names, or the empty one."""
    if not lake.exists(POINTER):
        return EMPTY
    pointer = orjson.loads(lake.read_bytes(POINTER))
    root = version_root(pointer["version"])
    return Base(
        version=pointer["version"],
        index=scan(lake, [f"{root}/index.parquet"]).collect(),
        folded=frozenset(scan(lake, [f"{root}/folded.parquet"]).collect()["segment_id"]),
        folded_through=pointer["folded_through"],
        devices=pointer["devices"],
    )


def topic_of_domain(name: str) -> str:
    """Return what stands for a domain's contacts among topics; no topic that a device may have holds a colon."""
    return f"domain:{name}"


def scan(lake: Lake, paths: list[str], schema: pl.Schema | None = None) -> pl.LazyFrame:
    """Scan files of the lake by exact name: topics may hold characters that a glob would take for its own.

    Args:
        lake: The lake.
        paths: The files; at least one.
        schema: The columns wanted. One that a file was written without is null there, and others are left out: files
            of a lake are as old as it is. None: all files have the columns of the first.
    """
    lenient: dict[str, Any] = {"schema": schema, "missing_columns": "insert", "extra_columns": "ignore"}
    return pl.scan_parquet(
        [lake.uri(path) for path in paths],
        glob=False,
        hive_partitioning=False,
        storage_options=lake.polars_options() or None,
        **({} if schema is None else lenient),
    )


def scan_devices(lake: Lake, paths: list[str]) -> pl.LazyFrame:
    """Scan devices files of a version, whichever columns devices had when it was made."""
    return scan(lake, paths, DEVICE_SCHEMA)


def version_root(version: int) -> str:
    """Return the folder of a version."""
    return f"audience/version={version}"


def folder_name(topic: str) -> str:
    """Return a topic as a folder name that every file system and object store takes; distinct topics stay distinct."""
    quoted = quote(topic, safe="")
    if len(quoted) <= _LONGEST_NAME:
        return quoted
    # "~" ends a shortened name. quote() leaves it as it is, but a name this long was shortened in any case.
    return quoted[:_LONGEST_NAME] + "~" + hashlib.sha256(topic.encode()).hexdigest()[:32]


class VersionWriter:
    """Writes the files of one new version; nothing reads them before the pointer names the version.

    Rows of small topics are held back and written together; what is held is bounded.
    """

    # A part of this many rows is written at once; reading 2 M rows then opens eight files.
    _PART_ROWS = 250_000
    # All topics' held rows together, about 100 bytes each.
    _HELD_ROWS = 2_000_000

    def __init__(self, lake: Lake, version: int) -> None:
        self._lake = lake
        self.root = version_root(version)
        self.version = version
        self._held: dict[tuple[str, str], list[pl.DataFrame]] = {}
        self._held_rows: dict[tuple[str, str], int] = {}
        self._index: list[tuple[str, str | None, str, int]] = []
        self.devices = 0
        self.rows = 0

    def add(self, devices: pl.DataFrame) -> None:
        """Add devices rows (``DEVICE_COLUMNS``); each token of a tenant once over all calls."""
        for (tenant,), part in devices.partition_by("tenant", as_dict=True, maintain_order=True).items():
            self._put(f"devices/tenant={quote(str(tenant), safe='')}", str(tenant), None, part)
        live = devices.filter(pl.col("op") == RegistrationOp.UPSERT.value)
        self.devices += live.height
        exploded = live.select("tenant", *TOPIC_COLUMNS, topic="topics").explode("topic").drop_nulls("topic")
        # A list that names a topic twice must not address a device twice.
        exploded = exploded.unique(subset=["tenant", "token", "topic"], keep="any") if _repeats(live) else exploded
        contacts = live.drop_nulls("domain")
        if contacts.height:
            of_domains = pl.format(topic_of_domain("{}"), "domain")
            exploded = pl.concat([exploded, contacts.select("tenant", *TOPIC_COLUMNS, topic=of_domains)])
        for key, part in exploded.partition_by(["tenant", "topic"], as_dict=True, include_key=False).items():
            self._hold((str(key[0]), str(key[1])), part)
        if sum(self._held_rows.values()) > self._HELD_ROWS:
            self._flush()

    def finish(self, folded: list[str], folded_through: int, now: datetime) -> None:
        """Write what is held, the index, and last the pointer: from then on this is the current version."""
        self._flush()
        index = pl.DataFrame(self._index, schema=_INDEX_SCHEMA, orient="row").sort("tenant", "topic", "path")
        self._write(f"{self.root}/index.parquet", index)
        self._write(
            f"{self.root}/folded.parquet", pl.DataFrame({"segment_id": sorted(folded)}, {"segment_id": pl.String()})
        )
        pointer = {
            "version": self.version,
            "folded_through": folded_through,
            "devices": self.devices,
            "rows": self.rows,
            "made_at": to_micros(now),
        }
        self._lake.write_bytes(POINTER, orjson.dumps(pointer))

    @property
    def topics(self) -> int:
        """How many (tenant, topic) pairs have files."""
        return len({(tenant, topic) for tenant, topic, _, _ in self._index if topic is not None})

    def _hold(self, key: tuple[str, str], part: pl.DataFrame) -> None:
        self._held.setdefault(key, []).append(part)
        self._held_rows[key] = self._held_rows.get(key, 0) + part.height
        if self._held_rows[key] >= self._PART_ROWS:
            self._flush_one(key)

    def _flush(self) -> None:
        for key in sorted(self._held):
            self._flush_one(key)

    def _flush_one(self, key: tuple[str, str]) -> None:
        tenant, topic = key
        self.rows += self._held_rows.pop(key)
        folder = f"tenant={quote(tenant, safe='')}/topic={folder_name(topic)}"
        self._put(folder, tenant, topic, pl.concat(self._held.pop(key)))

    def _put(self, folder: str, tenant: str, topic: str | None, rows: pl.DataFrame) -> None:
        path = f"{self.root}/{folder}/part-{len(self._index):06d}.parquet"
        self._write(path, rows)
        self._index.append((tenant, topic, path, rows.height))

    def _write(self, path: str, rows: pl.DataFrame) -> None:
        buffer = io.BytesIO()
        rows.write_parquet(buffer, compression="zstd", row_group_size=_ROW_GROUP)
        self._lake.write_bytes(path, buffer.getvalue())


def _repeats(devices: pl.DataFrame) -> bool:
    return bool((devices["topics"].list.len() != devices["topics"].list.n_unique()).any())


def old_versions(lake: Lake, version: int, keep: int) -> Iterator[list[str]]:
    """Yield the paths of each version older than the ``keep`` before ``version``."""
    by_version: dict[int, list[str]] = {}
    for file in lake.list("audience/"):
        name = file.path.split("/")[1].removeprefix("version=")
        if name.isdigit() and int(name) < version:
            by_version.setdefault(int(name), []).append(file.path)
    for old in sorted(by_version, reverse=True)[keep:]:
        yield by_version[old]
