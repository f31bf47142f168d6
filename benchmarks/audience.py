"""How fast a topic's audience is, beside polars scanning the same files: ``python -m benchmarks.audience``.

Five million registrations with tokens as long and as random as real ones, folded into a base, with 50,000 changes
landed since. Each measurement runs in a fresh process, ours and the raw scan in turns. The last line is JSON:

- ``ratio_to_raw_scan``: audience rows per second ÷ rows per second of polars reading the same columns of the same files
- ``seconds_2m``, ``peak_mib``: the 2 M-device topic, and the process's peak memory over what it had after its imports
- ``seconds_2m_topics``: the 2 M-device topic together with another million, everybody once
- ``seconds_98k``, ``seconds_rebuild``, ``peak_mib_rebuild``
"""

import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl
from rich.console import Console
from rich.progress import track
from sqlalchemy import Connection, insert

from notify_pipeline.core.ids import new_id, to_micros
from notify_pipeline.core.lake import Lake, partition
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.ledger.outbox_tables import SEGMENTS
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.delivery import audience_base
from notify_pipeline.delivery.audience import BATCH_ROWS, AudienceReader, rebuild_base
from notify_pipeline.delivery.audience_base import PROFILE

DEVICES = 5_000_000
PIECE = 500_000
CHANGES = 50_000
ROUNDS = 5
TENANT = "bench"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
# Topic and which devices have it, out of every 5,000,000.
TOPICS = {"breaking": 2_000_000, "sport": 1_000_000, "chess": 98_000}


def registrations(first: int, count: int, revision: int, rng: random.Random) -> pl.DataFrame:
    """Make rows of devices first, first + 1, …; a token is the same each time that its piece is made."""
    digits = rng.randbytes(32 * count).hex()
    topics = pl.concat_list(
        [
            pl.when((pl.col("n") * 7_919 + 1_700_000 * place) % DEVICES < size).then(pl.lit(topic))
            for place, (topic, size) in enumerate(TOPICS.items())
        ]
    ).list.drop_nulls()
    at = to_micros(NOW) + revision
    return (
        pl.DataFrame({"token": [digits[64 * i : 64 * i + 64] for i in range(count)]})
        .with_row_index("n", first)
        .select(
            tenant=pl.lit(TENANT),
            token="token",
            platform=pl.when(pl.col("n") % 2 == 0).then(pl.lit("ios")).otherwise(pl.lit("android")),
            user_id=pl.format("u{}", pl.col("n") // 2),
            topics=topics,
            app_version=pl.lit("8.1.0"),
            locale=pl.lit("en-GB"),
            timezone=pl.lit("Europe/London"),
            op=pl.lit("upsert"),
            reason=pl.lit(None, pl.String),
            revision=pl.lit(revision, pl.Int64),
            at=pl.lit(at, pl.Int64).cast(pl.Datetime("us", "UTC")),
            domain=pl.lit(None, pl.String),
            previous=pl.lit(None if revision == 1 else "upsert", pl.String),
        )
    )


def land(lake: Lake, ledger: Ledger, rows: pl.DataFrame) -> None:
    segment = new_id()
    path = f"{partition(REGISTRATIONS, NOW)}/seg-{segment}.parquet"
    lake.write(path, rows.to_arrow().select(REGISTRATIONS.schema.names).cast(REGISTRATIONS.schema))
    ledger.write(_landed, (segment, path))


def _landed(conn: Connection, items: Sequence[tuple[str, str]]) -> list[None]:
    at = to_micros(NOW)
    common = {
        "lake_table": REGISTRATIONS.name,
        "kind": "landing",
        "state": "landed",
        "partition_at": at,
        "planned_at": at,
    }
    conn.execute(insert(SEGMENTS), [{"segment_id": segment, "path": path, **common} for segment, path in items])
    return [None] * len(items)


def build(folder: str) -> None:
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        lake = Lake(f"{folder}/lake")
        for number in track(range(DEVICES // PIECE), "5 M registrations", console=Console(stderr=True)):
            land(lake, ledger, registrations(number * PIECE, PIECE, 1, random.Random(number)))


def change(folder: str) -> None:
    """Land changes to some devices: half unsubscribe from everything, half subscribe to what they had."""
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        rows = registrations(0, PIECE, 2, random.Random(0)).head(CHANGES)
        halves = rows.with_columns(
            topics=pl.when(pl.col("user_id").str.slice(1).cast(pl.Int64) % 2 == 0)
            .then("topics")
            .otherwise(pl.lit([], pl.List(pl.String)))
        )
        land(Lake(f"{folder}/lake"), ledger, halves)


def measure(what: str, folder: str) -> dict[str, Any]:
    """Run one measurement in this process."""
    with Ledger.open(f"sqlite:///{folder}/ledger.db") as ledger:
        lake = Lake(f"{folder}/lake")
        before = peak_kib()
        began = time.perf_counter()
        if what == "rebuild":
            rows = rebuild_base(lake, ledger, NOW).rows
        elif what == "raw":
            files, _ = audience_base.load(lake).topic_files(TENANT, "breaking")
            frames = (
                audience_base.scan(lake, files)
                .select(PROFILE)
                .collect_batches(chunk_size=BATCH_ROWS, maintain_order=False)
            )
            rows = sum(frame.height for frame in frames)
        else:
            rows = sum(frame.height for frame in _audience(lake, ledger, what.split("+")))
        seconds = time.perf_counter() - began
        peak = peak_kib() - before
    return {"rows": rows, "seconds": seconds, "peak_mib": peak / 1024}


def peak_kib() -> int:
    """Return this program's peak memory; ``ru_maxrss`` would begin with what its parent had when it forked."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0])


def _audience(lake: Lake, ledger: Ledger, topics: Sequence[str]) -> Iterator[pl.DataFrame]:
    yield from AudienceReader(lake, ledger).topics(TENANT, topics).batches()


def in_process(what: str, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.audience", what, folder]
    found: dict[str, Any] = orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main() -> None:
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="bench-audience-") as folder:
        build(folder)
        rebuild = in_process("rebuild", folder)
        change(folder)
        kinds = ("raw", "breaking", "breaking+sport", "chess")
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in track(range(ROUNDS), "measuring, in turns", console=console):
            for kind in kinds:
                runs[kind].append(in_process(kind, folder))
    seconds = {kind: statistics.median(run["seconds"] for run in found) for kind, found in runs.items()}
    for kind, found in runs.items():
        console.print(
            f"{kind}: {found[0]['rows']:,} rows in {seconds[kind]:.3f} s, {max(r['peak_mib'] for r in found):.0f} MiB"
        )
    rate = {kind: runs[kind][0]["rows"] / seconds[kind] for kind in kinds}
    answer = {
        "ratio_to_raw_scan": round(rate["breaking"] / rate["raw"], 3),
        "rows_2m": runs["breaking"][0]["rows"],
        "seconds_2m": round(seconds["breaking"], 3),
        "peak_mib": round(max(run["peak_mib"] for run in runs["breaking"])),
        "seconds_raw": round(seconds["raw"], 3),
        "peak_mib_raw": round(max(run["peak_mib"] for run in runs["raw"])),
        "seconds_2m_topics": round(seconds["breaking+sport"], 3),
        "seconds_98k": round(seconds["chess"], 3),
        "seconds_rebuild": round(rebuild["seconds"], 1),
        "peak_mib_rebuild": round(rebuild["peak_mib"]),
    }
    print(orjson.dumps(answer).decode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(orjson.dumps(measure(*sys.argv[1:3])).decode())
    else:
        main()
