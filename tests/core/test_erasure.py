"""Who is erased from what: the rules, and that no column of the ledger or the lake is left out of them."""

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.erasure import ERASED, Scrubber, Subject
from notify_pipeline.core.erasure_map import LAKE, LEDGER
from notify_pipeline.core.erasure_tables import Rules
from notify_pipeline.core.ledger.erasure_scan import TEXTS
from notify_pipeline.core.ledger.schema import METADATA
from notify_pipeline.core.schemas import SNAPSHOT, TABLES

_GUIDE = Path(__file__).parents[2] / "docs" / "erasure.md"
ADA = Subject(
    "t", "ada-lovelace", frozenset({"ada@example.com"}), frozenset({"+447700900123"}), frozenset({"tok:Ada_1"})
)


def test_every_column_of_the_ledger_is_classified() -> None:
    """Whoever adds one says what an erasure does with it, in ``core.erasure_map`` and, if it does, in the code."""
    assert {name: set(table.columns.keys()) for name, table in METADATA.tables.items()} == {
        name: set(columns.all) for name, columns in LEDGER.items()
    }


def test_every_column_of_the_lake_is_classified() -> None:
    schemas = {name: table.schema for name, table in TABLES.items()} | {"snapshots": SNAPSHOT}
    assert {name: set(schema.names) for name, schema in schemas.items()} == {
        name: set(columns.all) for name, columns in LAKE.items()
    }


def test_what_may_name_people_within_is_looked_through() -> None:
    looked = {(texts.table.name, name) for texts in TEXTS for name in texts.columns}
    # What these hold of the person goes by the row's own name, or has landed before the lake is looked through.
    by_key = {("suppressions", "detail"), ("outbox", "rows"), ("erasures", "subject")}
    assert {(table, name) for table, columns in LEDGER.items() for name in columns.within} - by_key <= looked
    rules = Rules(Scrubber(ADA), 0)
    for table, columns in LAKE.items():
        rule = rules.of_snapshots if table == "snapshots" else rules.of_tables.get(table)
        # A topic is in the body too; what else a row says goes with the name of whose it is.
        wanted = columns.within - {"topics"} | (columns.row & {"token", "recipient", "user_id"})
        assert wanted <= set(rule.columns if rule else ()), table


def test_the_guide_tells_of_every_table_that_names_people() -> None:
    told = set(re.findall(r"^\| `(\w+)`", _GUIDE.read_text(), re.MULTILINE))
    named = {
        name for tables in (LEDGER, LAKE) for name, each in tables.items() if each.row or each.within or each.digest
    }
    assert named <= told


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("ada-lovelace", "erased"),
        ("Mail ADA@Example.com.", "Mail erased."),
        ("ada-lovelace met ada-lovelace-2", "erased met ada-lovelace-2"),
        ("not-ada-lovelace", "not-ada-lovelace"),
        ("nada@example.com", "nada@example.com"),
        ("ada@example.com.au", "ada@example.com.au"),
        ("+4477009001234", "+4477009001234"),
        ("call +447700900123!", "call erased!"),
        ("https://x.example/u/ada-lovelace?t=tok:Ada_1", "https://x.example/u/erased?t=erased"),
        ("user:ada-lovelace", "erased"),
    ],
)
def test_a_name_is_found_and_no_longer_one(text: str, without: str) -> None:
    assert Scrubber(ADA).text(text) == without


def test_a_short_name_is_found_only_where_people_are_named() -> None:
    short = Scrubber(Subject("t", "42"))
    value = {"customer_id": "42", "users": ["42", "43"], "score": "42", "text": "42 of 42", "recipients": ["42"]}
    assert short.value(value) == {
        "customer_id": ERASED, "users": ["43"], "score": "42", "text": "42 of 42", "recipients": [ERASED],
    }  # fmt: skip
    assert any(each in orjson.dumps(value).decode() for each in short.needles)


def test_a_send_never_becomes_one_to_everybody() -> None:
    guid = Scrubber(Subject("t", guids=frozenset({"6f9619ff-8b86"})))
    body = {
        "type": "x",
        "domain": "d.example",
        "visitors": [{"visitor_guid": "6f9619ff-8b86", "fields": {"name": "A"}}],
    }
    done = guid.body(
        body | {"content": {"title": "Dear A", "actions": [{"action": "buy", "title": "Buy, A", "link": "x"}]}}
    )
    assert done.alone and done.body["visitors"] == [{"visitor_guid": ERASED}]
    assert done.body["content"] == {"actions": [{"action": "buy", "title": ERASED}]}, "reports count its clicks"
    both = guid.body(body | {"visitors": [*body["visitors"], {"visitor_guid": "g2", "fields": {}}]})
    assert not both.alone and [each["visitor_guid"] for each in both.body["visitors"]] == ["g2"]


_NAMES = st.sampled_from(["ada-lovelace", "ADA@example.com", "+447700900123", "tok:Ada_1", "user:ada-lovelace"])
_JSON = st.recursive(
    st.one_of(st.none(), st.integers(0, 9), _NAMES, st.text(max_size=4), st.builds("x {} y".format, _NAMES)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["data", "user_id", "title", "tok:Ada_1"]), inner, max_size=3),
    ),
    max_leaves=8,
)


@given(_JSON)
def test_whatever_it_is_in_no_name_is_left_and_doing_it_again_changes_nothing(value: object) -> None:
    scrubber = Scrubber(ADA)
    stored = orjson.dumps(value).decode()
    once = scrubber.json(stored)
    assert not any(name in once.lower() for name in ("ada-lovelace", "ada@example.com", "+447700900123", "tok:ada_1"))
    assert scrubber.json(once) == once
    has = any(each in stored for each in scrubber.needles) or any(m in stored.lower() for m in scrubber.mail_needles)
    assert has or once == stored, "what no needle finds names nobody"
