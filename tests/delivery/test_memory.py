"""What a shard's process holds does not grow with the shard."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.schemas import REGISTRATIONS
from notify_pipeline.delivery import broadcast
from tests.delivery.fakes import context
from tests.delivery.lakes import T0, Landing
from tests.delivery.test_broadcast import routed
from tests.waiting import PATIENCE_S

# A recipient held as columns and tuples has some 0.5 kB. Peaks of equal shards differ by up to 30 MB, whatever their
# size. The smaller shard is large enough for chunks of full size.
BYTES_PER_RECIPIENT = 60


def registrations(size: int) -> pa.Table:
    """Devices with tokens as long as real ones."""
    same = {"tenant": "t1", "platform": "android", "topics": ["t"], "op": "upsert", "revision": 1, "at": T0}
    each = {"token": [f"{number:0150d}" for number in range(size)], "user_id": [f"user-{n}" for n in range(size)]}
    columns = [
        pa.array(each[field.name], field.type)
        if field.name in each
        else pa.repeat(pa.scalar(same.get(field.name), field.type), size)
        for field in REGISTRATIONS.schema
    ]
    return pa.table(columns, schema=REGISTRATIONS.schema)


def peak_of_one_shard(folder: Path, size: int) -> int:
    """Send one shard of this size in a process of its own; return its peak memory in bytes."""
    url = f"sqlite:///{folder}/ledger.db"
    with Ledger.open(url) as ledger:
        lake = Lake(f"{folder}/lake")
        Landing(lake, ledger).put(registrations(size))
        ctx = context(ledger, lake, shard_min=size, shard_max=size)
        request_id = routed(ctx, topics=["t"])
        (ref,) = broadcast.snapshot(ctx, request_id)
        assert ref.recipients == size
    command = [sys.executable, "-m", "tests.delivery.worker", "peak", str(folder), url, request_id]
    return int(subprocess.run(command, check=True, timeout=PATIENCE_S, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize(
    ("few", "many"),
    [
        pytest.param(60_000, 700_000, id="short"),
        pytest.param(60_000, 1_000_000, id="long", marks=[pytest.mark.long]),
    ],
)
def test_peak_memory_does_not_depend_on_the_shard(tmp_path: Path, few: int, many: int) -> None:
    small, large = (peak_of_one_shard(tmp_path / str(size), size) for size in (few, many))
    assert large - small < (many - few) * BYTES_PER_RECIPIENT
