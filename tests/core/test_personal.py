"""Names of personal fields in texts."""

from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.personal import PERSONAL_FIELDS, fields_in, literal, missing_fields

NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(lambda name: name.lower() != "brackets")


def test_names_are_the_same_in_any_case_and_come_once_in_their_order() -> None:
    assert fields_in("[[[Name]]] [[[city]]] [[[NAME]]] [[[[x]]]] [[[a-b]]] [[[1]]] [[[user_id]]]") == [
        "name",
        "city",
        "x",
        "user_id",
    ]
    assert fields_in("[[[brackets]]]name]]] [[[]]] [[name]]") == []
    assert fields_in(literal("[[[name]]]")) == []


def test_missing_are_those_that_nobody_knows() -> None:
    texts = ("Hi [[[Name]]], [[[locale]]]", "[[[City]]] [[[name]]] [[[day]]]")
    assert missing_fields(texts, ["NAME"]) == ["city", "day"]
    assert missing_fields(texts, ["name", "city", "Day", "more"]) == []
    assert missing_fields(["Hi [[[Name]]]"], []) == ["name"]


@given(st.lists(NAME, max_size=6), st.lists(NAME, max_size=6), st.text(max_size=5))
def test_missing_and_given_are_all_that_there_are(written: list[str], given: list[str], between: str) -> None:
    text = between.replace("[", "").replace("]", "").join(f"[[[{name}]]]" for name in written)
    missing = missing_fields([text], given)
    assert set(missing).isdisjoint({name.lower() for name in given} | set(PERSONAL_FIELDS))
    assert set(fields_in(text)) == {name.lower() for name in written} >= set(missing)
    assert missing_fields([text], [*given, *missing]) == []
