"""The truth logs: numbering, streaming, segments, and what a crash may leave behind."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.sandbox.truthlog import TruthLog


def read(log: TruthLog, since: int = 0) -> list[dict[str, Any]]:
    async def gather() -> bytes:
        return b"".join([block async for block in log.stream(since)])

    return [orjson.loads(line) for line in asyncio.run(gather()).splitlines()]


def numbers(log: TruthLog, since: int = 0) -> list[int]:
    return [line["n"] for line in read(log, since)]


def test_lines_are_numbered_from_one(tmp_path: Path) -> None:
    log = TruthLog(tmp_path)
    assert (log.last, read(log)) == (0, [])
    assert [log.append({"n": 0, "x": x}) for x in "abc"] == [1, 2, 3]
    assert read(log) == [{"n": 1, "x": "a"}, {"n": 2, "x": "b"}, {"n": 3, "x": "c"}]
    log.close()


def test_committed_lines_are_in_the_file_at_once(tmp_path: Path) -> None:
    log = TruthLog(tmp_path)
    log.append({"x": 1})
    log.commit()
    (segment,) = tmp_path.iterdir()
    assert segment.read_bytes() == b'{"x":1,"n":1}\n'
    assert segment.stat().st_mode & 0o777 == 0o600
    log.close()


@given(lines=st.integers(0, 60), segment=st.integers(1, 20), since=st.integers(0, 70), reopen=st.integers(0, 60))
def test_any_since_gives_exactly_what_follows(
    tmp_path_factory: pytest.TempPathFactory, lines: int, segment: int, since: int, reopen: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = TruthLog(folder, segment)
    for n in range(lines):
        if n == reopen:
            log.close()
            log = TruthLog(folder, segment)
        log.append({"pad": "x" * (n * 7 % 40)})
    assert numbers(log, since) == list(range(since + 1, lines + 1))
    log.close()


def test_a_torn_last_line_goes_and_its_number_is_used_again(tmp_path: Path) -> None:
    log = TruthLog(tmp_path)
    for n in range(5):
        log.append({"x": n})
    log.close()
    (segment,) = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(b'{"x":5,"n":')
    log = TruthLog(tmp_path)
    assert log.last == 5
    log.append({"x": "new"})
    assert numbers(log) == [1, 2, 3, 4, 5, 6]
    assert read(log, 5) == [{"x": "new", "n": 6}]
    log.close()


def test_a_segment_that_was_opened_and_never_written_is_fine(tmp_path: Path) -> None:
    log = TruthLog(tmp_path, 2)
    log.append({})
    log.append({})
    log.close()
    assert len(list(tmp_path.iterdir())) == 2
    log = TruthLog(tmp_path, 2)
    assert log.last == 2
    assert log.append({}) == 3
    assert numbers(log) == [1, 2, 3]
    log.close()


def test_lines_longer_than_a_block_come_whole(tmp_path: Path) -> None:
    log = TruthLog(tmp_path)
    for n in range(4):
        log.append({"pad": "x" * 400_000, "k": n})
    assert [line["k"] for line in read(log, 1)] == [1, 2, 3]
    log.close()


def test_a_reader_sees_what_there_was_when_it_asked(tmp_path: Path) -> None:
    async def scenario() -> list[int]:
        log = TruthLog(tmp_path, 3)
        for _ in range(4):
            log.append({})
        stream = log.stream(0)
        blocks = [await anext(stream)]
        for _ in range(4):
            log.append({})
        log.commit()
        blocks += [block async for block in stream]
        log.close()
        return [orjson.loads(line)["n"] for line in b"".join(blocks).splitlines()]

    assert asyncio.run(scenario()) == [1, 2, 3, 4]
