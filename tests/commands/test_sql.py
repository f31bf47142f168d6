"""``notify sql``, as a process: what it prints, how it ends, and that it only reads."""

import io
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from notify_pipeline.cli import app
from notify_pipeline.core.lake import Lake
from tests.reports.desk import Desk
from tests.reports.worlds import World
from tests.waiting import PATIENCE_S, wait_for

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE a.range * b.range % 7 = 3"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one published version: n1 with two recipients, n2 with none."""
    root = tmp_path_factory.mktemp("home")
    world = World()
    world.request("n1", title="It's\n1 \x1b[2J", topics=["uk", "sport"])
    world.request("n2", at=5, title=None)
    world.attempt("a", "accepted")
    world.attempt("b", "permanent")
    lake = Lake(str(root / "lake"))
    world.put(lake)
    Desk(lake, root / "reports").publish()
    return root


def notify_sql(home: Path, *arguments: str, text: str = "") -> Result:
    """Run it to its end, in this process."""
    return CliRunner().invoke(app, ["sql", *arguments], input=text, env={"NOTIFY_HOME": str(home)})


def test_a_statement_is_printed_as_a_table_without_control_characters(home: Path) -> None:
    done = notify_sql(home, "-c", "SELECT notification_id, title, audience FROM notifications ORDER BY 1 -- both")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "notification_id | title           | audience",
        "----------------+-----------------+---------",
        "n1              | It's\\n1 \\x1b[2J |        2",
        "n2              |                 |        0",
        "(2 rows)",
    ]


def test_every_format_gives_every_row_of_the_reports_and_the_lake(home: Path) -> None:
    query = "SELECT tenant, topics, accepted_at, a.attempts FROM notifications n LEFT JOIN (SELECT tenant,"
    query += " notification_id, count(*) AS attempts FROM lake.attempts GROUP BY ALL) a USING (tenant, notification_id)"
    query += " ORDER BY n.notification_id;"
    lines = notify_sql(home, "--format", "ndjson", text=query).stdout.splitlines()
    at = "2026-11-21T06:00:00.000000Z"
    assert orjson.loads(lines[0]) == {"tenant": "t1", "topics": ["uk", "sport"], "accepted_at": at, "attempts": 2}
    assert orjson.loads(lines[1])["attempts"] is None
    csv = notify_sql(home, "--format", "csv", "-c", query).stdout.splitlines()
    assert csv == ["tenant,topics,accepted_at,attempts", f't1,"[uk, sport]",{at},2', f"t1,[uk],{at[:17]}05{at[19:]},"]
    table = pq.read_table(io.BytesIO(notify_sql(home, "--format", "parquet", "-c", query).stdout_bytes))
    assert table["topics"].to_pylist() == [["uk", "sport"], ["uk"]]


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO facts.timeline SELECT * FROM facts.timeline",
        "SELECT 1; CREATE TABLE x AS SELECT 1",
        "COPY (SELECT 1) TO 'stolen.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'stolen.csv'",
        "/* a */ -- b\n EXPLAIN (ANALYZE) COPY (SELECT 1) TO 'stolen.csv'",
        "WITH a AS (DELETE FROM facts.timeline RETURNING *) FROM a",
        "WITH a AS (COPY (SELECT 1) TO 'stolen.csv') FROM a",
        "EXPLAIN ANALYZE WITH a AS (-- b\n copy (SELECT 'é') TO 'stolen.csv') FROM a",
        "WITH a AS (WITH b AS (SELECT 1) INSERT INTO facts.timeline FROM b) FROM a",
        "FROM query('WITH a AS (COPY (SELECT 1) TO ''stolen.csv'') FROM a')",
        "FROM enable_logging('QueryLog', storage = 'file', storage_path = 'stolen')",
        "FROM enable_profiling(save_location = 'stolen.json', format = 'json')",
        "FROM 'http://127.0.0.1:9/never.parquet'",
        "ATTACH 'more.duckdb'",
        "SET memory_limit = '1TB'",
        "selec",
    ],
)
def test_what_writes_or_is_not_sql_is_refused_in_one_line(
    home: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = notify_sql(home, "-c", text)
    assert (done.exit_code, done.stdout, list(tmp_path.iterdir())) == (1, "", [])
    assert done.stderr.startswith("error: ")


def test_words_that_write_may_be_names_and_text(home: Path) -> None:
    query = """SELECT max("update") AS n, max(t) AS t FROM (SELECT 1 AS "update", '(delete' AS t) WHERE t <> 'é(copy'"""
    assert notify_sql(home, "--format", "csv", "-c", query).stdout == "n,t\n1,(delete\n"


def test_nothing_that_runs_before_a_failure_is_lost_and_nothing_after_it_runs(home: Path) -> None:
    done = notify_sql(home, "--format", "csv", text="SELECT 1 AS a; SELECT error('no'); SELECT 2 AS b;")
    assert (done.exit_code, done.stdout) == (1, "a\n1\n")
    assert "no" in done.stderr


def test_a_reader_that_has_enough_ends_it_without_a_word(home: Path) -> None:
    command = f"{sys.executable} -m notify_pipeline.cli sql --format csv -c 'FROM range(100000000)' | head -n 2"
    environment = os.environ | {"NOTIFY_HOME": str(home)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, env=environment, timeout=PATIENCE_S, check=True)
    assert (done.stdout, done.stderr) == (b"range\n0\n", b"")


def test_as_of_a_moment_before_the_first_version_there_is_none(home: Path) -> None:
    done = notify_sql(home, "--as-of", "2020-01-01", "-c", "FROM notifications")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no version is kept")


def test_an_empty_home_has_empty_tables_of_the_lake(tmp_path: Path) -> None:
    done = notify_sql(tmp_path, "-c", "SELECT count(*) AS n, max(previous) AS p FROM lake.registrations")
    assert done.stdout.splitlines()[2].split("|")[0].strip() == "0"


def test_the_shell_describes_stops_a_query_and_remembers(home: Path, tmp_path: Path) -> None:
    talk = Talk(home, tmp_path)
    assert "version" not in talk.until("sql> ")
    assert "lake.attempts" in talk.say("\\d")
    assert "The partition's day" in talk.say("\\d lake.attempts")
    assert "By what" not in talk.say("\\d notifications")
    talk.write("SELECT notification_id\n")
    talk.until("...> ")
    assert "n1" in talk.say("FROM notifications ORDER BY 1 LIMIT 1;")
    talk.write(f"SELECT 'on' AS going; {ENDLESS};\n")
    talk.until("(1 row)")
    os.kill(talk.pid, signal.SIGINT)
    assert "stopped" in talk.until("sql> ")
    assert "error: " in talk.say("DROP VIEW notifications;")
    assert '"n":7' in talk.say("\\format ndjson") + talk.say("SELECT 7 AS n;")
    talk.write("\\q\n")
    assert talk.end() == 0
    assert "ORDER BY 1" in (tmp_path / "notify" / "sql_history").read_text()


def test_ctrl_c_ends_a_single_statement_with_130(home: Path, tmp_path: Path) -> None:
    talk = Talk(home, tmp_path, "-c", f"EXPLAIN SELECT 1; {ENDLESS}")
    talk.until("Dummy Scan")
    os.kill(talk.pid, signal.SIGINT)
    assert talk.end() == 130


def test_ctrl_c_ends_a_single_statement_whose_reader_does_not_read_however_often_it_comes(home: Path) -> None:
    command = [sys.executable, "-m", "notify_pipeline.cli", "sql", "--format", "csv", "-c", "FROM range(100000000)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"NOTIFY_HOME": str(home)}) as asked:
        assert asked.stdout is not None
        assert asked.stdout.read(5) == b"range"
        while asked.poll() is None:
            asked.send_signal(signal.SIGINT)
        assert asked.returncode == 130


class Talk:
    """A terminal with the shell in it."""

    def __init__(self, home: Path, state: Path, *arguments: str) -> None:
        environment = os.environ | {"NOTIFY_HOME": str(home), "XDG_STATE_HOME": str(state), "TERM": "dumb"}
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            command = [sys.executable, "-m", "notify_pipeline.cli", "sql", *arguments]
            os.execve(sys.executable, command, environment)

    def write(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def say(self, line: str) -> str:
        self.write(line + "\n")
        return self.until("sql> ")

    def until(self, text: str) -> str:
        seen: list[str] = []

        def more() -> bool:
            seen.append(os.read(self._terminal, 65_536).decode(errors="replace"))
            return text in "".join(seen)

        wait_for(more, what=text)
        return "".join(seen)

    def end(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
