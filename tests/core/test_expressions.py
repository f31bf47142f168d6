"""Expressions: read with the place of what is wrong, evaluated within bounds, whatever they say."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notify_pipeline.core.expressions import MAX_LENGTH, BadExpression, NotEvaluated, compiled
from tests.examples import examples

EVENT = {
    "source": "shop",
    "type": "order.shipped",
    "detail": {"order": {"total": 120, "items": [{"sku": "a", "n": 2}, {"sku": "b", "n": 0}]}, "tags": []},
    "recipients": None,
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)
PIECES = [
    "a",
    "b",
    ".",
    "[*]",
    "[]",
    "[0]",
    "[?",
    "]",
    "&&",
    "||",
    "!",
    "==",
    "<",
    "`1`",
    "'x'",
    "@",
    "|",
    "(",
    ")",
    ",",
]
PIECES += [
    "{a: ",
    "}",
    "to_string(",
    "sort_by(",
    "&",
    "map(",
    "join(",
    "[@,@]",
    "*",
    "[::0]",
    '"b"',
    "sum(",
    "`[`",
    "length(",
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("detail.order.total > `100`", True),
        ("detail.order.total > `200`", False),
        ("detail.order.items[?n > `0`].sku", True),
        ("detail.order.items[?n > `5`].sku", False),
        ("detail.tags", False),
        ("detail.nothing", False),
        ("recipients", False),
        ("`0`", True),
        ("detail.order.items[1].n", True),
        ("source == 'shop' && starts_with(type, 'order.')", True),
        ("contains(detail.order.items[].sku, 'b')", True),
        ("!(detail.order.late)", True),
        ("'`x`' != source && type == `\"order.shipped\"`", True),
    ],
)
def test_conditions(text: str, found: bool) -> None:
    assert compiled(text).holds(EVENT) is found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("detail.", "(at character 8)"),
        ("a b", "(at character 3)"),
        ("a == 'x", "(at character 6)"),
        ("a && nope(b)", "there is no function nope() (at character 6)"),
        ("a && !b.c", "! takes parentheses here, as in !(a.b) (at character 6)"),
        ("[&a]", "& may only stand before an argument of"),
        ("a == `x` || b", "is JSON, a text in it has double quotes (at character 6)"),
        ("length(a, b)", "length() takes 1 arguments, not 2 (at character 1)"),
        ("[" * 900, "nests deeper"),
        ("(" * 1_900, "nests deeper"),
        ("a." * 700 + "a", "parts"),
        ("a" * (MAX_LENGTH + 1), "characters"),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(BadExpression) as caught:
        compiled(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" | ".join(["[@, @]"] * 25) + " | to_string(@)", {}),
        (" | ".join(["[@, @]"] * 25), {}),
        (" | ".join(["[@, @]"] * 20) + " | [0] == [1]", {}),
        (" | ".join(["[@, @][]"] * 25), [1]),
        (" | ".join(["join('', [@, @])"] * 25), "ab"),
        ("a[*].a[*].a[*]", {"a": [{"a": [{"a": [1] * 50}] * 100}] * 100}),
        ("length(a)", {}),
        ("a < b", {"a": 1, "b": "x"}),
        ("a[::0]", {"a": [1]}),
        ("ceil(to_number('inf'))", {}),
    ],
)
def test_what_does_not_suit_an_event_or_would_take_too_long_is_not_evaluated(text: str, value: object) -> None:
    with pytest.raises(NotEvaluated):
        compiled(text).search(value)


@settings(max_examples=examples(400), deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), JSON)
def test_any_text_is_refused_or_gives_json_or_does_not_suit(text: str, value: object) -> None:
    try:
        expression = compiled(text)
    except BadExpression as error:
        assert str(error)
        return
    try:
        found = expression.search(value)
        assert expression.search(value) == found
    except NotEvaluated as error:
        assert str(error)
