"""Conditions on topics: what they mean, and what their errors say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.conditions import (
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_TOPICS,
    AllOf,
    AnyOf,
    Condition,
    ConditionError,
    HasTopic,
    Not,
    parse,
)

TOPICS = ["uk", "sport", "breaking/uk", "a.b~c%20", "in", "topics", "-"]


def holds(condition: Condition, topics: set[str]) -> bool:
    match condition:
        case HasTopic(topic):
            return topic in topics
        case Not(operand):
            return not holds(operand, topics)
        case AllOf(operands):
            return all(holds(each, topics) for each in operands)
        case AnyOf(operands):
            return any(holds(each, topics) for each in operands)


SPACE = st.sampled_from(["", " ", "  ", "\n\t"])


def _chain(operands: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(
        lambda parts, sign, pad: "(" + f"{pad}{sign}{pad}".join(parts) + f"{pad})",
        st.lists(operands, min_size=1, max_size=4),
        st.sampled_from(["&&", "||"]),
        SPACE,
    )


WRITTEN = st.recursive(
    st.builds(lambda topic, pad: f"{pad}'{topic}' in topics{pad}", st.sampled_from(TOPICS), SPACE),
    lambda inner: st.one_of(_chain(inner), st.builds(lambda pad, each: f"!{pad}{each}", SPACE, inner)),
    max_leaves=12,
)


@given(text=WRITTEN, topics=st.sets(st.sampled_from(TOPICS)))
def test_a_condition_means_what_python_says_it_means(text: str, topics: set[str]) -> None:
    in_python = " ".join(text.replace("&&", " and ").replace("||", " or ").replace("!", " not ").split())
    assert holds(parse(text), topics) is bool(eval(in_python, {"topics": topics}))


@given(text=st.text(alphabet="'ab!&|() \n/intopics", max_size=60) | WRITTEN, data=st.data())
def test_anything_is_a_condition_or_an_error_that_says_where(text: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(text)))
    text = text[:cut] + data.draw(st.sampled_from(["", "(", ")", "!", "&&", "'"])) + text[cut:]
    try:
        parse(text)
    except ConditionError as error:
        assert "character" in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected 'a topic' in topics, ! or ( at character 1, not the end"),
        ("'uk' in topics &&", "expected 'a topic' in topics, ! or ( at character 18, not the end"),
        ("('uk' in topics", "expected &&, || or ) at character 16, not the end"),
        ("'uk' in topics)", "expected &&, || or the end at character 15, not )"),
        ("'uk' in topics 'us' in topics", "expected &&, || or the end at character 16, not a topic"),
        ("'u k' in topics", "cannot be read from character 1 on: expected 'a topic' in topics, &&, ||, !, ( )"),
        ("'uk' in topics & 'us'", "cannot be read from character 16 on: expected 'a topic' in topics, &&, ||, !, ( )"),
        (
            "'a' in topics || 'b' in topics && 'c' in topics",
            "mixes && and || at character 32: parentheses must say which comes first",
        ),
        (
            "!" * (MAX_DEPTH + 1) + "'a' in topics",
            f"nests deeper than {MAX_DEPTH} at character {MAX_DEPTH + 1}",
        ),
        (" " * (MAX_LENGTH + 1), f"has {MAX_LENGTH + 1} characters; {MAX_LENGTH} are allowed"),
        (
            " || ".join(["'a' in topics"] * (MAX_TOPICS + 1)),
            f"names more than {MAX_TOPICS} topics, from character {17 * MAX_TOPICS + 1} on",
        ),
    ],
)
def test_errors_say_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ConditionError) as error:
        parse(text)
    assert str(error.value) == message


def test_the_bounds_themselves_are_allowed() -> None:
    parse("(" * MAX_DEPTH + "'a' in topics" + ")" * MAX_DEPTH)
    parse(" && ".join(["'a' in topics"] * MAX_TOPICS))
