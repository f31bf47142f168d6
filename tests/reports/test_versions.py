"""Publishing: immutable versions, one writer, and readers that always see a whole version."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.reports import manifests, reading_details, reading_lists, versions
from notify_pipeline.reports.composed import attach_empty
from notify_pipeline.reports.database import attached, connect
from notify_pipeline.reports.manifests import Build, Segment, Version
from notify_pipeline.reports.reading import ReportReader, VersionGoneError
from notify_pipeline.reports.reading_filters import ListFilter
from notify_pipeline.reports.reading_rows import COUNTS
from notify_pipeline.reports.segments import write_all
from notify_pipeline.reports.versions import StaleCandidateError, WriterBusyError, current, publish, writer
from tests.reports.desk import NOW
from tests.reports.worlds import seconds
from tests.waiting import PATIENCE_S

# One notification with two platforms whose figures are all the version's number: a torn read would mix two numbers.
_FILL = """
INSERT INTO report.facts.notifications BY NAME
SELECT 't1' AS tenant, 'n' || i AS notification_id, 'r' AS request_id, 'news' AS type, 'normal' AS priority,
    [] AS topics, [] AS platforms, FALSE AS is_dry_run, TIMESTAMPTZ '2026-11-21 06:00:00Z' AS accepted_at,
    TIMESTAMPTZ '2026-11-22 06:00:00Z' AS expires_at, 'done' AS state, {zeros}
FROM range(20) AS r(i);
INSERT INTO report.facts.platform_reports BY NAME
SELECT 't1' AS tenant, 'n' || i AS notification_id, TIMESTAMPTZ '2026-11-21 06:00:00Z' AS accepted_at, p AS channel,
    p AS platform, p AS provider, {zeros}
FROM range(20) AS r(i), (VALUES ('ios'), ('android')) AS v(p);
"""


def publish_number(root: Path, number: int, keep: int = 5, at: datetime = NOW) -> None:
    """Publish a version whose figures are its number."""
    folder = versions.building(root) / str(number)
    folder.mkdir(exist_ok=True)
    connection = connect("200MB", 1)
    facts = attach_empty(connection)
    zeros = ", ".join(f"{number} AS {name}" for name in COUNTS)
    connection.execute(_FILL.format(zeros=zeros))
    segments = write_all(connection, facts, folder)
    connection.close()
    build = Build(number, at, at, at, 0, 0, 0, 0)
    publish(root, Version(number, at, "", build, segments), folder, keep, 0)


def whole(reader: ReportReader) -> int:
    """Ask two questions and return the number that all the figures of each are; they may be of two versions."""
    page = reading_lists.page(reader, ListFilter(("t1",), since=seconds(0), until=seconds(1)), 50).rows
    assert len(page) == 20
    numbers = {part["hits"] for row in page for part in (row["totals"], *row["platforms"])}
    assert len(numbers) == 1
    one = reading_details.one(reader, "t1", "n7")
    assert one is not None
    assert len({one["totals"]["audience"], *(part["received"] for part in one["platforms"])}) == 1
    assert len(one["platforms"]) == 2
    assert one["totals"]["audience"] >= max(numbers)
    return int(one["totals"]["audience"])


_OTHER_PROCESS = """
import sys
from pathlib import Path
from notify_pipeline.reports.reading import ReportReader
from tests.reports.test_versions import whole
reader = ReportReader(Path(sys.argv[1]))
seen = [whole(reader) for _ in range(60)]
assert seen == sorted(seen)
print(len(seen), len(set(seen)))
"""


def test_no_query_fails_or_is_torn_while_versions_are_published(tmp_path: Path) -> None:
    publish_number(tmp_path, 1)
    reader = ReportReader(tmp_path)
    failures: list[BaseException] = []
    seen: dict[int, list[int]] = {n: [] for n in range(4)}
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def ask(number: int) -> None:
        try:
            for _ in range(30):
                seen[number].append(whole(reader))
        except BaseException as error:  # a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(number,)) for number in seen]
    for thread in threads:
        thread.start()
    number = 1
    while any(thread.is_alive() for thread in threads) or other.poll() is None:
        number += 1
        publish_number(tmp_path, number)
    output, errors = other.communicate()
    assert failures == []
    assert other.returncode == 0, errors
    asked, different = map(int, output.split())
    assert asked == 60
    assert different > 2
    assert number > 5
    for numbers in seen.values():
        assert len(numbers) == 30
        assert numbers == sorted(numbers)
        assert len(set(numbers)) > 2
    whole(reader)
    files = [path for path in (tmp_path / "segments").glob("*/*.duckdb")]
    assert len(files) == len(list((tmp_path / "versions").iterdir())) == 5


_ANOTHER_WRITER = """
import sys
from pathlib import Path
from notify_pipeline.reports.versions import writer
with writer(Path(sys.argv[1])):
    print("held")
"""


def test_only_one_may_write(tmp_path: Path) -> None:
    with writer(tmp_path):
        with pytest.raises(WriterBusyError), writer(tmp_path):
            raise AssertionError("two writers")
        command = [sys.executable, "-c", _ANOTHER_WRITER, str(tmp_path)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "WriterBusyError" in other.stderr
    with writer(tmp_path):
        pass


def test_who_may_wait_writes_next(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        entered, leave = threading.Event(), threading.Event()

        def hold() -> None:
            with writer(tmp_path):
                entered.set()
                leave.wait(PATIENCE_S)

        held = pool.submit(hold)
        assert entered.wait(PATIENCE_S)
        with pytest.raises(WriterBusyError), writer(tmp_path, 0.1):
            raise AssertionError("two writers")
        leave.set()
        with writer(tmp_path, 30):
            held.result(PATIENCE_S)


def test_a_dead_builders_files_are_removed(tmp_path: Path) -> None:
    left = versions.building(tmp_path) / "candidate" / "left.duckdb"
    left.parent.mkdir()
    left.write_bytes(b"half")
    with writer(tmp_path):
        assert not left.parent.exists()


def test_a_version_that_the_pointer_never_named_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_number(tmp_path, 1)
    versions.manifest_path(tmp_path, 2).write_bytes(b"a crash left this")
    left = tmp_path / "segments" / "2026-11-21" / "left.duckdb"
    left.write_bytes(b"and this")
    version = current(tmp_path)
    assert version is not None
    assert (version.number, version.published_at) == (1, NOW)
    publish_number(tmp_path, 2)
    assert whole(ReportReader(tmp_path)) == 2
    monkeypatch.setattr(versions, "_SWEEP", 3)
    publish_number(tmp_path, 3)
    assert not left.exists(), "one version in so many looks for such files"


@given(changes=st.lists(st.sets(st.integers(1, 4)), min_size=1, max_size=12), keep=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_just_the_segments_stay_that_a_kept_version_names(changes: list[set[int]], keep: int) -> None:
    with TemporaryDirectory() as folder:
        root, days = Path(folder), dict[int, Segment]()
        for number, changed in enumerate(changes, 1):
            draft = versions.building(root) / str(number)
            for day in changed:
                days[day] = Segment(f"2026-11-0{day}", f"segments/2026-11-0{day}/{number}.duckdb")
                path = draft / days[day].file
                path.parent.mkdir(parents=True)
                path.touch()
                path.with_suffix(".ids").touch()
            at = NOW + timedelta(days=number)
            publish(root, Version(number, at, segments=tuple(days.values())), draft, keep, 0)
        kept = [manifests.load(path) for path in (root / "versions").iterdir()]
        assert len(kept) == min(max(keep, 2), len(changes))
        named = {segment.file for version in kept for segment in version.segments}
        assert {str(path.relative_to(root)) for path in root.glob("segments/*/*.duckdb")} == named
        assert len(list(root.glob("segments/*/*.ids"))) == len(named)


def test_a_candidate_that_was_overtaken_is_refused(tmp_path: Path) -> None:
    publish_number(tmp_path, 1)
    with pytest.raises(StaleCandidateError):
        publish_number(tmp_path, 1)
    with pytest.raises(StaleCandidateError):
        publish_number(tmp_path, 3)
    assert whole(ReportReader(tmp_path)) == 1


def test_an_earlier_moment_is_answered_by_the_version_of_then(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        publish_number(tmp_path, number, keep=2, at=NOW + timedelta(days=number))
    reader = ReportReader(tmp_path)

    def figure(as_of: datetime | None) -> int:
        listed = reading_lists.page(reader, ListFilter(("t1",)), 1, as_of=as_of).rows[0]["totals"]["hits"]
        one = reading_details.one(reader, "t1", "n7", as_of=as_of)
        assert one is not None
        assert one["totals"]["hits"] == listed
        return int(listed)

    assert figure(None) == 3
    assert figure(NOW + timedelta(days=2.5)) == 2
    assert figure(NOW + timedelta(days=9)) == 3
    with pytest.raises(VersionGoneError):
        figure(NOW + timedelta(days=1.5))
    with reader.cursor(as_of=NOW + timedelta(days=2)) as held:
        assert held is not None
        publish_number(tmp_path, 4, keep=2, at=NOW + timedelta(days=4))
        assert figure(None) == 4
        assert held.execute("FROM main.build").fetchall()[0][0] == 2


def test_a_clock_that_was_set_back_mixes_no_versions(tmp_path: Path) -> None:
    for number, at in ((1, NOW), (2, NOW - timedelta(hours=1)), (3, NOW)):
        publish_number(tmp_path, number, at=at)
    found = [versions.at(tmp_path, NOW + timedelta(microseconds=passed)) for passed in range(3)]
    assert [version and version.number for version in found] == [1, 2, 3]


def test_every_table_and_column_that_people_read_is_described(tmp_path: Path) -> None:
    publish_number(tmp_path, 1)
    with ReportReader(tmp_path).cursor(described=True) as cursor:
        assert cursor is not None
        tables = cursor.execute(
            "SELECT view_name, comment FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal"
            " AND database_name = current_database() UNION ALL SELECT table_name, comment FROM duckdb_tables()"
            " WHERE schema_name = 'main' AND database_name = current_database()"
        ).fetchall()
    of_notifications = {"notifications", "platform_reports", "timeline", "failures", "actions", "consumed"}
    assert {name for name, _ in tables} >= of_notifications | {"build"}
    assert all(comment for _, comment in tables)


def test_the_storage_format_is_the_older_one(tmp_path: Path) -> None:
    publish_number(tmp_path, 1)
    connection = connect("100MB", 1)
    version = current(tmp_path)
    assert version is not None
    with attached(connection, tmp_path / version.segments[0].file, read_only=True):
        [(tags,)] = connection.execute("SELECT tags FROM duckdb_databases() WHERE database_name = 'report'").fetchall()
    assert "v1.5" in str(tags)
    connection.close()


def test_a_build_draws_no_progress_bars_into_the_log_of_its_process() -> None:
    asked = "select current_setting('enable_progress_bar')"
    code = f"from notify_pipeline.reports import database; c = database.connect('64MB', 1); print(c.sql({asked!r}))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "false" in out
