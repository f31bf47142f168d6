"""The text of a page: what browsers show of it, whatever it is made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.email.reading import as_text
from notify_pipeline.core.templating import MAX_HTML

_BITS = [
    "<",
    "<a ",
    "</a",
    "<!--",
    "-->",
    "<![x[",
    "<?",
    "<script>",
    "</script>",
    "<p>",
    ">",
    "'",
    '"',
    "=",
    "&",
    "&#",
    "9" * 50,
]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("1 < 2 and 3 <4 <> </>", "1 < 2 and 3 <4 <> </>"),
        ("a<!-- no <b> --> b<!--> c<!doctype x> d<?php e?> f", "a b c d f"),
        ("<script>if (a<b) '</p>'</script>x<style>p>a{}</style >y", "xy"),
        ("a <title>b<c", "a"),
        ("a <b c", "a"),
        ("""<a title='>' href = "https://x.example/?a=1&amp;b='2'">go</a>""", "go (https://x.example/?a=1&b='2')"),
        ("<a href=https://x.example>go</a><a data-href='https://y.example'>no</a>", "go (https://x.example)no"),
        ("<a href='javascript:alert(1)'>go</a>", "go"),
        ("<p it's>one</p><p>two's</p>", "one\n\ntwo's"),
        ("&lt;b&gt; &#65;&#x42; &#" + "9" * 5_000 + ";", "<b> AB \ufffd"),
        ("<![x[ a> b", "b"),
    ],
)
def test_what_a_reader_sees(page: str, text: str) -> None:
    assert as_text(page) == text


@given(st.lists(st.sampled_from(_BITS) | st.text(max_size=5), max_size=20).map("".join))
def test_any_text_is_a_page(page: str) -> None:
    assert len(as_text(page)) <= 3 * len(page)


@pytest.mark.parametrize(
    "bit", [*_BITS, "<a b='", '<a b="', "<x\n", "<!--a--!>", "<title><!--", "<a href=", "</script "]
)
def test_no_page_takes_longer_than_its_length(bit: str) -> None:
    # In time that grows with the square of the length, which was half a minute for a third of this, a run never ends.
    page = (bit * MAX_HTML)[:MAX_HTML] * 10
    as_text(page)
