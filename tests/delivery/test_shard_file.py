"""Rows of a shard's file by number, over both lake stores, against the same rows read at once."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger.chunk_rows import NewChunk, chunk_row, new_chunk_values
from notify_pipeline.core.schemas import SNAPSHOT
from notify_pipeline.delivery import shard_file
from notify_pipeline.delivery.shard_file import open_shard

SIZES = (4, 1, 7, 3, 5)  # of the row groups
ROWS = sum(SIZES)
PATH = "snapshots/request=r/s.parquet"


def write(lake: Lake) -> None:
    rows = {"recipient": [f"d{n}" for n in range(ROWS)], "platform": ["ios"] * ROWS}
    table = pa.table({name: rows.get(name, pa.nulls(ROWS, pa.string())) for name in SNAPSHOT.names}, SNAPSHOT)
    with lake.writer(PATH, SNAPSHOT, unique=("recipient",)) as writer:
        start = 0
        for size in SIZES:
            writer.write_table(table.slice(start, size))
            start += size


def test_any_ascending_rows_come_back_in_their_order(lake: Lake) -> None:
    write(lake)
    with open_shard(lake, PATH) as file:
        assert file.rows == ROWS
        for ordinals in (range(0), range(ROWS), range(3, 12), [0, 4, 5, 11, 12, 19], [19], []):
            assert file.take(ordinals)["recipient"].to_pylist() == [f"d{n}" for n in ordinals]
    with pytest.raises(FileNotFoundError), open_shard(lake, "snapshots/none.parquet"):
        pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(chunks=st.lists(st.sets(st.integers(0, ROWS - 1)), max_size=5))
def test_whatever_was_read_before(folder_lake: Lake, chunks: list[set[int]]) -> None:
    write(folder_lake)
    with open_shard(folder_lake, PATH) as file:
        for chunk in chunks:
            assert file.take(sorted(chunk))["recipient"].to_pylist() == [f"d{n}" for n in sorted(chunk)]
            assert len(file._kept) <= shard_file._KEPT


@pytest.mark.parametrize("ordinals", [[1, 0], [3, 3], range(ROWS - 1, ROWS + 1), [-1]])
def test_wrong_rows_are_refused(folder_lake: Lake, ordinals: list[int]) -> None:
    write(folder_lake)
    with open_shard(folder_lake, PATH) as file, pytest.raises(ValueError, match=r"ascend|rows"):
        file.take(ordinals)


@given(
    ordinals=st.one_of(
        st.builds(range, st.integers(0, 2**31), st.integers(0, 2**31)).filter(lambda r: len(r) < 10_000),
        st.lists(st.integers(0, 2**32 - 1), max_size=50),
    ),
    attempt=st.integers(1, 2**16 - 1),
    varied=st.booleans(),
)
def test_chunks_come_back_from_the_ledger_as_they_were(ordinals: range | list[int], attempt: int, varied: bool) -> None:
    attempts = [1 + (attempt + n) % 60_000 if varied else attempt for n in range(len(ordinals))]
    new = NewChunk("r", 1, 2, ordinals, attempts, 3, "run", "path")
    stored = chunk_row({**new_chunk_values(new), "state": "intended", "counts": None, "retries": None})
    assert (list(stored.ordinals), list(stored.attempts)) == (list(ordinals), attempts)
    assert isinstance(stored.ordinals, range) == isinstance(ordinals, range)


def test_a_range_is_a_few_bytes_however_many_it_has() -> None:
    values = new_chunk_values(NewChunk("r", 1, 2, range(100_000), [1] * 100_000, 3, "run", "path"))
    assert len(values["ordinals"]) + len(values["attempts"]) < 20
