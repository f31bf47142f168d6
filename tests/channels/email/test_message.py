"""What an e-mail says once it is parsed again, whatever it was made of."""

import html
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected
from notify_pipeline.channels.email import message
from notify_pipeline.channels.email.message import MAX_BYTES, sender_of
from notify_pipeline.channels.email.reading import as_text
from notify_pipeline.core import mail_origin, unsubscribe_tokens
from notify_pipeline.core.mail_origin import Origin
from notify_pipeline.core.records import Content, Recipient
from notify_pipeline.core.unsubscribe_tokens import Unsubscribing
from notify_pipeline.core.vocabulary import Channel, Platform
from tests.channels.email.relay import LETTERHEAD
from tests.channels.harness import notification

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADA = Recipient("ada@example.com", Platform.EMAIL, user_id='<b>Ada & "Co"</b>', locale="en-GB")
ID = "d" * 40
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)


def made(content: Content, recipient: Recipient = ADA, **changes: Any) -> bytes:
    prepared = message.prepare(notification(content=content, **changes), Platform.EMAIL, LETTERHEAD)
    return message.render(prepared, LETTERHEAD, recipient, ID, NOW)


def parsed(raw: bytes) -> EmailMessage:
    found = BytesParser(_class=EmailMessage, policy=policy.default).parsebytes(raw)
    assert [part.get_content_type() for part in found.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert not found.defects
    return found


def part(found: EmailMessage, kind: str) -> str:
    body = found.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def lines_of(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300), TEXTS)
def test_any_text_arrives_as_it_was_and_adds_no_header(title: str, body: str) -> None:
    raw = made(Content(title, body or None, html=f"<p>{html.escape(body)}</p>"))
    assert raw.isascii() and max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\r" not in raw.replace(b"\r\n", b"") and b"\n" not in raw.replace(b"\r\n", b"")
    found = parsed(raw)
    assert found.keys() == parsed(made(Content("x", "y"))).keys()
    expected = " ".join(message._CONTROLS.sub(" ", title).split())
    assert " ".join(str(found["Subject"]).split()) == expected
    if body:
        assert part(found, "plain").rstrip("\n") == lines_of(body).rstrip("\n")
    assert html.escape(lines_of(body)) in part(found, "html")


def test_headers_that_mail_programs_and_bounces_go_by() -> None:
    found = parsed(made(Content("T", "B"), category="news"))
    assert (found["From"], found["To"]) == ("The Daily <news@example.org>", "ada@example.com")
    assert found["Message-ID"] == f"<{ID}@example.org>"
    assert found["Date"].datetime == NOW
    assert (found["Auto-Submitted"], found["MIME-Version"]) == ("auto-generated", "1.0")
    assert found["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = found["List-Unsubscribe"].strip("<>")
    start, _, token = link.rpartition("/")
    assert start == "https://notify.example.org/unsubscribe"
    about = Unsubscribing("tenant-1", f"user:{ADA.user_id}", "news", Channel.EMAIL)
    assert unsubscribe_tokens.check(LETTERHEAD.unsubscribe_secret, token) == about
    assert link in part(found, "plain") and f'href="{link}"' in part(found, "html")
    assert mail_origin.read(LETTERHEAD.origin_secret, found[mail_origin.HEADER]) == Origin("tenant-1", ID)
    assert mail_origin.read(b"x" * 32, found[mail_origin.HEADER]) is None
    assert found["Feedback-ID"].count(":") == 3


def test_only_what_has_a_category_shows_how_to_unsubscribe() -> None:
    found = parsed(made(Content("Your code", "123456")))
    assert "Unsubscribe" not in part(found, "plain") + part(found, "html")
    assert found["List-Unsubscribe"]


def test_personal_fields_are_filled_and_escaped_in_html() -> None:
    text = "Hi [[[user_id]]] [[[locale]]][[[timezone]]] [[[brackets]]]user_id]]]"
    found = parsed(made(Content(text, text, link="https://x.example/[[[user_id]]]", html=f'<a title="{text}">x</a>')))
    filled = f"Hi {ADA.user_id} en-GB [[[user_id]]]"
    assert found["Subject"] == filled
    assert part(found, "plain") == f"{filled}\n\nhttps://x.example/[[[user_id]]]"
    assert (
        part(found, "html").rstrip("\n") == f'<a title="Hi {html.escape(ADA.user_id or "")} en-GB [[[user_id]]]">x</a>'
    )
    evil = ADA._replace(user_id="x\r\nBcc: eve@example.com\r\n\r\n")
    assert parsed(made(Content(text, text), evil))["Bcc"] is None


def test_html_is_made_of_what_there_is_and_holds_no_markup_of_it() -> None:
    evil = '<script>alert("x")</script>'
    content = Content(f"T {evil}", f"B {evil}\nsecond", 'https://x.example/?a="><b>', 'https://x.example/i?"><b>')
    shown = part(parsed(made(content)), "html")
    assert "<script" not in shown and '"><b>' not in shown
    assert html.escape(evil) + "<br>" in shown and "<img src=" in shown
    app = part(parsed(made(Content("T", "B", "javascript:alert(1)"))), "html")
    assert "javascript" not in app


def test_own_html_gets_the_footer_inside_and_gives_the_text() -> None:
    own = "<html><head><style>p{}</style></head><body><p>Hello <b>you</b></p><a href='https://x.example/'>go</a></BODY></html>"
    found = parsed(made(Content("T", html=own), category="news"))
    shown = part(found, "html")
    assert shown.index("Unsubscribe") < shown.index("</BODY>") and shown.startswith("<html>")
    assert part(found, "plain").startswith("Hello you\ngo (https://x.example/)")
    assert as_text("<ul><li>a<li>b</ul>&lt;c&gt;") == "a\nb\n<c>"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (Content(data={"k": "v"}), "no_content"),
        (Content("T", "\ud800"), "invalid_text"),
        (Content("T", html="x" * (MAX_BYTES + 1)), PAYLOAD_TOO_LARGE),
        (Content("T", html="[[[user_id]]]" + "x" * (MAX_BYTES + 1)), PAYLOAD_TOO_LARGE),
    ],
)
def test_what_can_be_no_mail(content: Content, code: str) -> None:
    with pytest.raises(ContentRejected) as caught:
        made(content)
    assert caught.value.code == code


def test_a_category_in_the_override_s_place_and_retries_are_the_same_message() -> None:
    over = {Channel.EMAIL: Content("Other", "B")}
    raw = made(Content("T", "B"), overrides=over)
    assert parsed(raw)["Subject"] == "Other"
    assert raw == made(Content("T", "B"), overrides=over)


def test_whom_mail_is_from() -> None:
    assert sender_of("news@example.org") == ("", "news@example.org")
    assert sender_of('"The Daily" <news@example.org>') == ("The Daily", "news@example.org")
    for wrong in ("news", "The Daily", "a@b, c@d", "x <a@b> y", "N\n <a@b\r\nBcc: c@d>"):
        with pytest.raises(ValueError):
            sender_of(wrong)
