"""How far logs are read: kept in the lake, and never going back, whoever moves it and in whatever order."""

import random
import threading
from datetime import UTC, datetime, timedelta, timezone

from notify_pipeline.core import log_watermark
from notify_pipeline.core.lake import Lake

NOW = datetime(2026, 11, 21, 6, 30, 1, 250_000, tzinfo=UTC)


def test_it_is_kept_in_the_lake_and_only_grows(lake: Lake) -> None:
    assert log_watermark.read(lake) is None
    assert log_watermark.advance(lake, NOW) == NOW
    assert log_watermark.read(Lake(lake.root, lake.s3_endpoint_url)) == NOW
    assert log_watermark.advance(lake, NOW - timedelta(microseconds=1)) == NOW
    later = (NOW + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=5)))
    assert log_watermark.advance(lake, later) == later
    assert log_watermark.read(lake) == later
    assert len(lake.list(log_watermark.FOLDER, suffix="")) == 1


def test_a_file_that_is_no_mark_is_left_alone(lake: Lake) -> None:
    lake.write_bytes(f"{log_watermark.FOLDER}/note.mark", b"")
    assert log_watermark.read(lake) is None
    log_watermark.advance(lake, NOW)
    assert lake.exists(f"{log_watermark.FOLDER}/note.mark")


def test_of_many_that_move_it_at_once_the_furthest_counts(lake: Lake) -> None:
    moments = [NOW + timedelta(seconds=n) for n in range(40)]
    random.Random(3).shuffle(moments)
    seen: list[timedelta] = []

    def move(share: list[datetime]) -> None:
        for moment in share:
            log_watermark.advance(lake, moment)
            now = log_watermark.read(lake)
            assert now is not None
            seen.append(now - moment)

    threads = [threading.Thread(target=move, args=(moments[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log_watermark.read(lake) == max(moments)
    assert len(seen) == len(moments)
    assert min(seen) >= timedelta(0)
