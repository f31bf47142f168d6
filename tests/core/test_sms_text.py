"""The text of a short message."""

import pytest

from notify_pipeline.core.records import Content
from notify_pipeline.core.sms_text import text_of

FULL = Content("Title", "Body", "https://example.com/1", "https://example.com/1.jpg", {"k": "v"})


@pytest.mark.parametrize(
    ("on_sms", "text"),
    [
        (FULL, "Title\nBody\nhttps://example.com/1"),
        (Content("Title", "Short", "https://example.com/1"), "Short"),  # the override's own body is all
        (Content(None, "Body", None), "Body"),
        (Content("Title"), "Title"),
        (Content(data={"k": "v"}), ""),
        (Content("a\r\nb", "Body", "app://[[[user_id]]]"), "a\nb\nBody\napp://[[[brackets]]]user_id]]]"),
    ],
)
def test_a_text_is_made_of_what_the_channel_shows(on_sms: Content, text: str) -> None:
    assert text_of(FULL, on_sms) == text
