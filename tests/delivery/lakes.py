"""Registrations put into the lake as the lander would, without running one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from sqlalchemy import insert, update

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.schemas import REGISTRATIONS

T0 = datetime(2026, 11, 21, 12, tzinfo=UTC)


def row(token: str, revision: int, topics: Sequence[str], op: str = "upsert", **more: Any) -> dict[str, Any]:
    values = {
        "tenant": "t1",
        "token": token,
        "platform": "android",
        "user_id": None,
        "topics": list(topics),
        "app_version": None,
        "locale": None,
        "timezone": None,
        "op": op,
        "reason": None,
        "revision": revision,
        "at": to_micros(T0) + revision,
        "domain": None,
        "previous": None if revision == 1 else "upsert",
    }
    return values | more


def table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    schema = REGISTRATIONS.schema
    return pa.table({name: pa.array([r[name] for r in rows], schema.field(name).type) for name in schema.names}, schema)


@dataclass
class Landing:
    """Lands and compacts segments of registrations."""

    lake: Lake
    ledger: Ledger

    def land(self, *rows: dict[str, Any]) -> str:
        return self.put(table(rows))

    def put(self, rows: pa.Table) -> str:
        segment = new_id()
        path = f"{partition(REGISTRATIONS, T0)}/seg-{segment}.parquet"
        self.lake.write(path, rows)
        self.ledger.write(_insert, (segment, path))
        return segment

    def compact(self, *segments: str, delete: bool = True) -> str:
        with self.ledger.read() as conn:
            paths = {s: conn.execute(SEGMENTS.select().where(SEGMENTS.c.segment_id == s)).one().path for s in segments}
        merged = self.put(pa.concat_tables(self.lake.read(path) for path in paths.values()))
        self.ledger.write(_replace, (segments, merged))
        if delete:
            self.lake.delete(paths.values())
        return merged


def _insert(conn: Any, items: Sequence[tuple[str, str]]) -> list[None]:
    for segment, path in items:
        conn.execute(
            insert(SEGMENTS).values(
                segment_id=segment,
                lake_table="registrations",
                kind="landing",
                path=path,
                partition_at=to_micros(T0),
                state="landed",
                planned_at=to_micros(T0),
            )
        )
    return [None] * len(items)


def _replace(conn: Any, items: Sequence[tuple[Sequence[str], str]]) -> list[None]:
    for segments, by in items:
        mine = SEGMENTS.c.segment_id.in_(list(segments))
        conn.execute(update(SEGMENTS).where(mine).values(state="replaced", replaced_by=by))
    return [None] * len(items)
