"""Names and origins are what browsers make of them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.core.domain_names import MAX_LENGTH, WRITTEN_PATTERN, host_name, origin, own_origins

_LABELS = st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,10}[a-zA-Z0-9])?", fullmatch=True)
_NAMES = st.lists(_LABELS, min_size=1, max_size=4).map(".".join).filter(lambda n: not n.rpartition(".")[2].isdigit())


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("example.com", "example.com"),
        ("Shop.EXAMPLE.com", "shop.example.com"),
        ("localhost", "localhost"),
        ("127.0.0.1", "127.0.0.1"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
        ("xn--n3h.example", "xn--n3h.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_a_name_has_one_spelling(written: str, name: str) -> None:
    assert host_name(written) == name


@pytest.mark.parametrize(
    "written",
    [
        "",
        ".",
        "..",
        "example.com.",
        ".example.com",
        "a..b",
        "-a.example",
        "a-.example",
        "a_b.example",
        "example.com:443",
        "https://example.com",
        "example.com/path",
        "user@example.com",
        "*.example.com",
        "exa mple.com",
        "example.com\n",
        "[::1]",
        "1.2.3",
        "example.1",
        "256.1.1.1",
        "01.2.3.4",
        "a" * 64 + ".example",
        "a." * 126 + "example",
        "\u0130.example\x00",
        "☃.example",
        "\u2024.example",
        "٣.٣.٣.٣",
    ],
)
def test_what_is_no_name_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="host"):
        host_name(written)


@given(_NAMES)
def test_names_are_folded_once(name: str) -> None:
    folded = host_name(name)
    assert folded == name.lower() == host_name(folded)
    assert re.search(WRITTEN_PATTERN, name)
    for own in own_origins(folded):
        assert origin(own) == own


@given(st.text(max_size=300))
def test_whatever_is_written_is_a_short_plain_name_or_refused(text: str) -> None:
    try:
        name = host_name(text)
    except ValueError:
        return
    assert 0 < len(name) <= MAX_LENGTH
    assert re.fullmatch(r"[a-z0-9.\-]+", name)
    assert host_name(name) == name


@pytest.mark.parametrize(
    "written",
    [
        "https://example.com",
        "https://www.example.com:8443",
        "https://xn--bcher-kva.example",
        "http://localhost",
        "http://localhost:3000",
        "http://127.0.0.1:5000",
        "https://localhost:80",
    ],
)
def test_an_origin_is_as_browsers_write_it(written: str) -> None:
    assert origin(written) == written


@pytest.mark.parametrize(
    "written",
    [
        "",
        "null",
        "*",
        "example.com",
        "https://",
        "https://*.example.com",
        "https://Example.com",
        "HTTPS://example.com",
        "https://example.com/",
        "https://example.com:443",
        "http://localhost:80",
        "https://example.com:0",
        "https://example.com:080",
        "https://example.com:65536",
        "https://bücher.example",
        "https://user@example.com",
        "https://example.com?x",
        "https://example.com\n",
        "http://example.com",
        "http://localhost.example.com",
        "ftp://example.com",
        "chrome-extension://abcdefghijklmnop",
        "https://" + "a." * 126 + "example",
    ],
)
def test_other_origins_are_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must"):
        origin(written)
