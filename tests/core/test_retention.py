"""Which days go: never more than the settings say, and nothing that reports may still need."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.retention import SOURCES, Hold, cuts, freeze, frozen_for, goes

TODAY = date(2026, 11, 21)
NAMES = [*sorted(SOURCES), "events", "quarantine"]
HOLDS = st.lists(st.builds(Hold, day=st.dates(TODAY - timedelta(days=60), TODAY), reason=st.text(min_size=1)))


@given(days=st.fixed_dictionaries({name: st.none() | st.integers(1, 50) for name in NAMES}), holds=HOLDS)
def test_a_cut_is_what_is_wanted_or_what_is_held(days: dict[str, int | None], holds: list[Hold]) -> None:
    found = {cut.table: cut for cut in cuts(days, TODAY, holds)}
    assert set(found) == {name for name, kept in days.items() if kept is not None}
    for name, cut in found.items():
        assert cut.wanted == TODAY - timedelta(days=days[name] or 0)
        assert cut.before <= cut.wanted
        assert (cut.before < cut.wanted) == (cut.held_by is not None)
        # The day before, at least, is kept whole: what is accepted on it may be told of in files of the next.
        assert name not in SOURCES or all(frozen_for(cut.before) <= hold.day for hold in holds)
        assert name in SOURCES or cut.held_by is None
    mark = freeze(found.values())
    assert mark is None or all(mark <= hold.day for hold in holds)
    for name in SOURCES & found.keys():
        last_gone = found[name].before - timedelta(days=1)
        assert mark is not None and mark >= last_gone + timedelta(days=2)


def test_a_path_goes_by_its_day() -> None:
    assert goes("attempts/date=2026-11-20/hour=23/x.parquet", TODAY)
    assert not goes("attempts/date=2026-11-21/hour=00/x.parquet", TODAY)
    assert not goes("extracts/written.json", TODAY)
