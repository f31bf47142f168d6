"""Log files however compressed and however damaged."""

import gzip
import random
import tracemalloc
import zlib

import pyarrow as pa
import pytest
import zstandard

from notify_pipeline.core.schemas import QUARANTINE, RECEIPTS
from notify_pipeline.receipts.blocks import Block, Damage, read_blocks
from notify_pipeline.receipts.files import ParsedFile, parse_file
from tests.receipts.samples import HOUR, line, log, query

LINES = [line(query(f"n{n % 3}", str(n))) for n in range(2_000)]


def reasons(parsed: ParsedFile) -> list[tuple[int, str]]:
    """Return line number and reason of what is in quarantine."""
    return list(zip(parsed.quarantine["line_no"].to_pylist(), parsed.quarantine["reason"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.gz", log(*LINES)),
        ("a.gz", log(*LINES[:500]) + log(*LINES[500:]) + b"\0" * 512),
        ("a.log", log(*LINES, compress=False)),
        ("a.log", b"\r\n".join(LINES)),
        ("a.log", log(*LINES)),
        ("a.zst", zstandard.compress(log(*LINES, compress=False))),
        (
            "a.zst",
            zstandard.compress(log(*LINES[:9], compress=False)) + zstandard.compress(log(*LINES[9:], compress=False)),
        ),
    ],
)
def test_every_compression_gives_the_same_table(name: str, raw: bytes) -> None:
    parsed = parse_file(name, raw, HOUR)
    assert parsed.events.equals(parse_file("b.gz", log(*LINES), HOUR).events)
    assert parsed.events.schema == RECEIPTS.schema
    assert parsed.quarantine.schema == QUARANTINE.schema
    assert (parsed.lines, parsed.other, parsed.quarantine.num_rows) == (2_000, 0, 0)


def test_an_empty_log_is_no_fault() -> None:
    for name, raw in (("a.log", b""), ("a.gz", gzip.compress(b"")), ("a.zst", zstandard.compress(b""))):
        parsed = parse_file(name, raw, HOUR)
        assert (parsed.lines, parsed.events.num_rows, parsed.quarantine.num_rows) == (0, 0, 0)


def test_of_a_truncated_gzip_all_that_is_there_is_read() -> None:
    raw = log(*LINES)
    decodable = zlib.decompressobj(wbits=31).decompress(raw[: len(raw) // 2])
    whole = decodable.count(b"\n")
    parsed = parse_file("logs/a.gz", raw[: len(raw) // 2], HOUR)
    assert 100 < parsed.events.num_rows == whole < 2_000
    assert reasons(parsed) == [(whole + 1, "truncated_file")]
    [row] = parsed.quarantine.to_pylist()
    assert (row["source_file"], row["at"]) == ("logs/a.gz", HOUR)
    assert row["raw"].encode() == decodable.rpartition(b"\n")[2]


@pytest.mark.parametrize("cut", [0, 1, 5, 15])
def test_a_gzip_cut_in_its_header_is_reported(cut: int) -> None:
    assert reasons(parse_file("a.gz", log(*LINES)[:cut], HOUR)) == [(1, "truncated_file")]


def test_a_truncated_zstd_is_reported() -> None:
    raw = zstandard.compress(log(*LINES, compress=False))
    parsed = parse_file("a.zst", raw[:-20], HOUR)
    assert [reason for _, reason in reasons(parsed)] == ["truncated_file"]


def test_damage_is_reported_once() -> None:
    raw = bytearray(log(*LINES))
    raw[len(raw) // 2] ^= 0xFF
    for name, content in (
        ("a.gz", bytes(raw)),
        ("a.gz", b"this is no gzip file"),
        ("a.gz", log(*LINES) + b"trailing bytes"),
        ("a.zst", b"neither zstd"),
    ):
        parsed = parse_file(name, content, HOUR)
        assert [reason for _, reason in reasons(parsed)] == ["corrupt_file"]


def test_garbage_between_good_lines_is_counted_with_its_line_numbers() -> None:
    garbage = {
        3: (b"\xff\xfe\x80", "bad_utf8"),
        7: (b"\0" * 64, "nul"),
        11: (line(pad="x" * 3_000_000), "too_long"),
        13: (line(query(platform="mars")), "unknown_platform"),
        14: (line().replace(b"2026", b"2126"), "future_time"),
        20: (line()[:70], "broken_json"),
    }
    lines = list(LINES[:100])
    for number, (raw, _) in garbage.items():
        lines[number - 1] = raw
    lines[49] = line(event="/other")
    parsed = parse_file("a.gz", log(*lines), HOUR)
    assert reasons(parsed) == [(number, reason) for number, (_, reason) in garbage.items()]
    assert (parsed.lines, parsed.other, parsed.events.num_rows) == (100, 1, 93)
    assert max(len(raw) for raw in parsed.quarantine["raw"].to_pylist()) == 1024


def test_an_endless_line_is_not_gathered_in_memory() -> None:
    content = LINES[0] + b"\n" + b"x" * 3_000_000 + b"\n" + LINES[1] + b"\n" + b"y" * 300_000
    found = list(read_blocks("a.log", content, 100_000))
    assert sum(len(part.data) for part in found if isinstance(part, Block)) == len(LINES[0]) + len(LINES[1]) + 2
    damages = [(part.line_no, part.reason.value, len(part.raw)) for part in found if isinstance(part, Damage)]
    assert damages == [(2, "too_long", 1024), (4, "too_long", 1024)]


def test_blocks_are_the_lines_whatever_their_size() -> None:
    draws = random.Random(5)
    content = b"".join(bytes(draws.choices(b"ab\n", k=draws.randint(0, 50))) for _ in range(40))
    for size in (1, 7, 64, 10_000):
        blocks = [part for part in read_blocks("a.log", content, size) if isinstance(part, Block)]
        assert b"".join(block.data for block in blocks) == content
        lines_before = [b"".join(block.data for block in blocks[:n]).count(b"\n") for n in range(len(blocks))]
        assert [block.first_line - 1 for block in blocks] == lines_before
        assert all(block.data.endswith(b"\n") for block in blocks[:-1])


def test_the_same_file_gives_the_same_table_in_pieces() -> None:
    whole = parse_file("a.gz", log(*LINES), HOUR).events
    parts = [parse_file("a.gz", log(*LINES[start : start + 300]), HOUR).events for start in range(0, 2_000, 300)]
    assert pa.concat_tables(parts).equals(whole)


def test_what_inflates_a_thousandfold_is_parsed_in_blocks_of_bounded_size() -> None:
    raw = gzip.compress(b"x\n" * 20_000_000)
    assert len(raw) < 256 * 1024
    blocks = list(read_blocks("bomb.gz", raw))
    assert all(isinstance(block, Block) and len(block.data) <= 16 * 1024 * 1024 for block in blocks)
    assert sum(block.data.count(b"\n") for block in blocks if isinstance(block, Block)) == 20_000_000


def test_gzip_that_inflates_a_thousandfold_is_not_in_memory_at_once() -> None:
    raw = gzip.compress(b"x" * 8 * 1024 * 1024 + b"\n" * 80_000_000, 1)
    tracemalloc.start()
    try:
        blocks = list(zip(range(3), read_blocks("bomb.gz", raw), strict=False))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(blocks) == 3
    assert peak < 70 * 1024 * 1024


@pytest.mark.parametrize("size", [8 * 1024 * 1024 - 1, 8 * 1024 * 1024, 8 * 1024 * 1024 + 1, 24 * 1024 * 1024])
@pytest.mark.parametrize("more", [b"", b"and another\n"])
def test_a_piece_of_exactly_the_size_that_is_inflated_at_once_ends_well(size: int, more: bytes) -> None:
    content = b"y\n" * (size // 2) + b"z" * (size % 2)
    raw = gzip.compress(content, 1) + (gzip.compress(more) if more else b"")
    blocks = list(read_blocks("a.gz", raw))
    assert b"".join(block.data for block in blocks if isinstance(block, Block)) == content + more
    assert all(isinstance(block, Block) for block in blocks)
