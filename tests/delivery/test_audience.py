"""Audiences that the lake counts out, against a plain model: a token's latest revision decides, in whatever file."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notify_pipeline.core.lake import Lake
from notify_pipeline.core.ledger import devices, leases
from notify_pipeline.core.ledger.devices import Registration
from notify_pipeline.core.ledger.engine import Ledger
from notify_pipeline.core.records import Audience
from notify_pipeline.core.vocabulary import Platform
from notify_pipeline.delivery import audience, audience_base
from notify_pipeline.delivery.audience import AudienceReader, CountedAudience, NotLanded, rebuild_base
from tests.delivery.lakes import T0, Landing, row, table
from tests.examples import examples
from tests.ledgers import made_at


def tokens(reader: AudienceReader, *topics: str, tenant: str = "t1") -> list[str]:
    return listed(reader.topics(tenant, topics))


def everyone(reader: AudienceReader, condition: str | None = None, tenant: str = "t1") -> list[str]:
    return listed(reader.find(tenant, Audience(everyone=True, condition=condition)))


def contacts(reader: AudienceReader, domain: str, tenant: str = "t1") -> list[str]:
    return listed(reader.find(tenant, Audience(domain=domain)))


def listed(found: CountedAudience) -> list[str]:
    got = sorted(token for frame in found.batches() for token in frame["token"].to_list())
    assert found.at_least <= len(got)
    return got


@pytest.fixture
def landing(lake: Lake, sqlite_ledger: Ledger) -> Landing:
    return Landing(lake, sqlite_ledger)


@pytest.fixture
def reader(landing: Landing) -> AudienceReader:
    return AudienceReader(landing.lake, landing.ledger)


def rebuild(landing: Landing) -> audience.BaseReport:
    return rebuild_base(landing.lake, landing.ledger, T0)


AWKWARD = ["breaking/uk", "a b", "50%", "*", "..", "topic=x", "ümläut", "[x]?", "x" * 400, "x" * 399 + "y"]


def test_topics_of_any_spelling_are_found_before_and_after_a_rebuild(landing: Landing, reader: AudienceReader) -> None:
    landing.land(*(row(f"d{i}", 1, [topic]) for i, topic in enumerate(AWKWARD)))
    for _ in range(2):
        assert [tokens(reader, topic) for topic in AWKWARD] == [[f"d{i}"] for i in range(len(AWKWARD))]
        assert rebuild(landing).devices == len(AWKWARD)
    assert tokens(reader, "unknown") == []
    assert tokens(reader, "breaking/uk", tenant="t2") == []


def test_news_override_the_base_and_a_removal_is_final(landing: Landing, reader: AudienceReader) -> None:
    landing.land(*(row(f"d{i}", 1, ["a", "b"]) for i in range(4)))
    rebuild(landing)
    landing.land(row("d0", 2, [], op="delete"), row("d1", 2, ["b"]), row("d2", 3, ["a"]), row("new", 1, ["a"]))
    landing.land(row("d2", 2, []))
    expected = ["d2", "d3", "new"]
    assert tokens(reader, "a") == expected
    report = rebuild(landing)
    assert (report.changed, report.folded, report.devices) == (True, 2, 4)
    assert tokens(reader, "a") == expected
    assert not rebuild(landing).changed


def test_everybody_is_addressed_once_over_several_topics(landing: Landing, reader: AudienceReader) -> None:
    landing.land(row("d0", 1, ["a", "b", "c"]), row("d1", 1, ["b"]), row("d2", 1, ["c", "a"]), row("d3", 1, ["d"]))
    for _ in range(2):
        assert tokens(reader, "a", "b", "c", "a") == ["d0", "d1", "d2"]
        rebuild(landing)
    landing.land(row("d4", 1, ["a", "c"]))
    assert tokens(reader, "c", "a") == ["d0", "d2", "d4"]


@pytest.mark.parametrize("forget", [False, True], ids=["sources known", "sources forgotten"])
def test_a_compaction_of_folded_and_new_rows_changes_nothing(
    landing: Landing, reader: AudienceReader, forget: bool
) -> None:
    old = landing.land(row("d0", 1, ["a"]), row("d1", 1, ["a"]))
    gone = landing.land(row("d0", 2, [], op="drop"), row("d1", 2, ["b"]))
    rebuild(landing)
    merged = landing.compact(old, gone)
    if forget:
        landing.ledger.write(_forget, (old, gone))
    assert (tokens(reader, "a"), tokens(reader, "b")) == ([], ["d1"])
    new = landing.land(row("d1", 3, ["a", "b"]))
    landing.compact(merged, new)
    assert (tokens(reader, "a"), tokens(reader, "b")) == (["d1"], ["d1"])
    rebuild(landing)
    assert (tokens(reader, "a"), tokens(reader, "b")) == (["d1"], ["d1"])


def _forget(conn: object, items: Sequence[tuple[str, ...]]) -> list[None]:
    from notify_pipeline.core.ledger.outbox_tables import SEGMENTS

    for item in items:
        conn.execute(SEGMENTS.delete().where(SEGMENTS.c.segment_id.in_(item)))  # type: ignore[attr-defined]
    return [None] * len(items)


def test_a_reader_that_streams_an_old_version_is_not_disturbed(landing: Landing, reader: AudienceReader) -> None:
    landing.land(*(row(f"d{i}", 1, ["a"]) for i in range(10)))
    rebuild(landing)
    batches = reader.topics("t1", ["a"]).batches(3)
    first = next(batches)
    landing.land(row("d0", 2, [], op="delete"))
    rebuild(landing)
    assert first.height + sum(frame.height for frame in batches) == 10
    assert tokens(reader, "a") == [f"d{i}" for i in range(1, 10)]


def test_old_versions_go_and_a_version_number_is_never_used_again(landing: Landing) -> None:
    versions = []
    for revision in range(1, 6):
        landing.land(row("d0", revision, ["a"]))
        versions.append(rebuild(landing).version)
    assert versions == sorted(set(versions))
    left = {file.path.split("/")[1] for file in landing.lake.list("audience/")}
    assert left == {f"version={n}" for n in versions[-3:]}


def test_only_one_rebuild_runs_at_a_time(landing: Landing, reader: AudienceReader) -> None:
    landing.land(row("d0", 1, ["a"]))
    held = leases.acquire(landing.ledger, "audience-base", "somebody", 60, T0)
    assert held is not None
    assert rebuild(landing).stopped_reason == "another rebuild is running"
    assert tokens(reader, "a") == ["d0"]
    leases.release(landing.ledger, held)
    assert rebuild(landing).changed


def test_the_lower_bound_never_exceeds_the_audience(landing: Landing, reader: AudienceReader) -> None:
    landing.land(*(row(f"d{i}", 1, ["a"]) for i in range(10)))
    rebuild(landing)
    assert reader.topics("t1", ["a"]).at_least == 10
    landing.land(*(row(f"d{i}", 2, [], op="delete") for i in range(4)))
    assert reader.topics("t1", ["a"]).at_least == 6 == len(tokens(reader, "a"))


def test_everyone_is_one_tenants_registrations_with_or_without_topics(landing: Landing, reader: AudienceReader) -> None:
    assert everyone(reader) == []
    landing.land(row("d0", 1, ["a"]), row("d1", 1, []), row("d2", 1, ["a"], op="drop"), row("x", 1, [], tenant="t2"))
    for _ in range(2):
        assert everyone(reader) == ["d0", "d1"]
        assert everyone(reader, "!'a' in topics") == ["d1"]
        assert everyone(reader, tenant="t2") == ["x"]
        rebuild(landing)
    # Nobody's topics may be unknown to a negation: a row that was written without a list has none.
    landing.land({**row("d3", 1, []), "topics": None})
    for _ in range(2):
        assert everyone(reader, "!'a' in topics") == ["d1", "d3"]
        rebuild(landing)


def test_contacts_are_one_tenants_of_one_domain_and_registered_like_others(
    landing: Landing, reader: AudienceReader
) -> None:
    assert contacts(reader, "a.example") == []
    a, b = {"domain": "a.example", "platform": "web"}, {"domain": "b.example", "platform": "webpush"}
    landing.land(row("c0", 1, [], **a), row("c1", 1, ["x"], **b), row("c2", 1, [], op="drop", **a), row("d0", 1, ["x"]))
    landing.land(row("c3", 1, [], tenant="t2", **a))
    for _ in range(2):
        assert (contacts(reader, "a.example"), contacts(reader, "b.example")) == (["c0"], ["c1"])
        assert contacts(reader, "a.example", tenant="t2") == ["c3"]
        assert (tokens(reader, "x"), everyone(reader)) == (["c1", "d0"], ["c0", "c1", "d0"])
        rebuild(landing)
    # One comes back, one moves, one goes.
    landing.land(row("c2", 2, [], **a), row("c1", 2, ["x"], **a), row("c0", 2, [], op="delete", **a))
    for _ in range(2):
        assert (contacts(reader, "a.example"), contacts(reader, "b.example")) == (["c1", "c2"], [])
        assert (tokens(reader, "x"), everyone(reader)) == (["c1", "d0"], ["c1", "c2", "d0"])
        rebuild(landing)


@pytest.mark.parametrize("old_first", [True, False])
def test_files_from_before_there_were_domains_are_read_beside_others(
    landing: Landing, reader: AudienceReader, old_first: bool
) -> None:
    old = table([row("d0", 1, ["a"]), row("c0", 1, ["a"])]).drop_columns(["domain"])
    new = table([row("c0", 2, [], domain="a.example"), row("c1", 1, ["a"], domain="a.example")])
    for rows in (old, new) if old_first else (new, old):
        landing.put(rows)
    for _ in range(2):
        assert contacts(reader, "a.example") == ["c0", "c1"]
        assert (tokens(reader, "a"), everyone(reader)) == (["c1", "d0"], ["c0", "c1", "d0"])
        rebuild(landing)


def test_a_base_from_before_there_were_domains_is_read_and_folded_into_the_next(
    landing: Landing, reader: AudienceReader
) -> None:
    landing.land(*(row(f"d{i}", 1, ["a"]) for i in range(3)))
    rebuild(landing)
    for path in audience_base.load(landing.lake).device_files():
        landing.lake.write(path, landing.lake.read(path).drop_columns(["domain"]))
    assert (everyone(reader), contacts(reader, "a.example")) == (["d0", "d1", "d2"], [])
    landing.land(row("d0", 2, ["a"], domain="a.example"), row("c0", 1, [], domain="a.example"))
    for _ in range(2):
        assert contacts(reader, "a.example") == ["c0", "d0"]
        assert (tokens(reader, "a"), everyone(reader)) == (["d0", "d1", "d2"], ["c0", "d0", "d1", "d2"])
        rebuild(landing)


def test_waiting_for_the_lander_ends_when_time_is_up(sqlite_ledger: Ledger) -> None:
    audience.wait_until_landed(sqlite_ledger, 1.0, lambda: T0, lambda _: None)
    devices.register(sqlite_ledger, "t1", Registration("d0", Platform.IOS, topics=["a"]), T0)
    mark = audience.high_water(sqlite_ledger)
    assert not audience.has_landed(sqlite_ledger, mark)
    ticks: Iterator[int] = iter(range(100))
    with pytest.raises(NotLanded, match="1 registrations had not landed after 2 s"):
        audience.wait_until_landed(sqlite_ledger, 2.0, lambda: T0 + timedelta(seconds=next(ticks)), lambda _: None)


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("land"),
            st.lists(
                st.tuples(
                    st.integers(0, 5),
                    st.lists(st.sampled_from("abc"), unique=True),
                    st.sampled_from(["upsert", "upsert", "delete"]),
                    st.sampled_from([None, "x.example", "y.example"]),
                ),
                min_size=1,
                max_size=6,
            ),
        ),
        st.tuples(st.just("rebuild"), st.none()),
        st.tuples(st.just("compact"), st.integers(2, 4)),
    ),
    min_size=1,
    max_size=12,
)


CONDITIONS: dict[str, Callable[[set[str]], bool]] = {
    "'a' in topics": lambda topics: "a" in topics,
    "!('a' in topics)": lambda topics: "a" not in topics,
    "'a' in topics && !('b' in topics || 'c' in topics)": lambda topics: topics == {"a"},
    "('a' in topics && 'b' in topics) || !'c' in topics": lambda topics: {"a", "b"} <= topics or "c" not in topics,
}


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, late=st.randoms(use_true_random=False))
def test_the_latest_revision_decides_in_any_order_of_landing(steps: list[tuple[str, object]], late: object) -> None:
    with TemporaryDirectory() as folder, Ledger.open(made_at(Path(folder) / "ledger.db")) as ledger:
        landing = Landing(Lake(f"{folder}/lake"), ledger)
        reader = AudienceReader(landing.lake, ledger)
        model: dict[str, tuple[int, list[str], str, str | None]] = {}
        written: list[str] = []
        held: list[dict[str, object]] = []
        for step, argument in steps:
            if step == "land":
                for number, topics, op, domain in argument:  # type: ignore[attr-defined]
                    token = f"d{number}"
                    revision = model[token][0] + 1 if token in model else 1
                    model[token] = (revision, topics, op, domain)
                    held.append(row(token, revision, topics, op, domain=domain))
                late.shuffle(held)  # type: ignore[attr-defined]
                written.append(landing.land(*held))
                held = []
            elif step == "rebuild":
                rebuild(landing)
            elif len(written) >= 2:
                count = min(int(str(argument)), len(written))
                written = [*written[count:], landing.compact(*written[:count])]
            for asked in (["a"], ["b", "c"], ["c", "a", "b"]):
                expected = sorted(
                    t for t, (_, topics, op, _) in model.items() if op == "upsert" and {*topics} & {*asked}
                )
                assert tokens(reader, *asked) == expected
            of_domain = [t for t, (_, _, op, domain) in model.items() if (op, domain) == ("upsert", "x.example")]
            assert contacts(reader, "x.example") == sorted(of_domain)
            registered = {token: topics for token, (_, topics, op, _) in model.items() if op == "upsert"}
            assert everyone(reader) == sorted(registered)
            for condition, holds in CONDITIONS.items():
                assert everyone(reader, condition) == sorted(t for t, topics in registered.items() if holds({*topics}))


def test_a_long_topic_name_is_a_legal_and_distinct_folder() -> None:
    names = {audience_base.folder_name(topic) for topic in AWKWARD}
    assert len(names) == len(AWKWARD)
    assert all(len(name.encode()) < 255 and "/" not in name and "*" not in name for name in names)
