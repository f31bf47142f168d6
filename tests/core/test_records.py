"""Content as bodies store it."""

from notify_pipeline.core.records import Action, Content, content_over

STORED = [
    {"action": "read", "title": "Read", "link": "https://example.com/1", "icon_url": "https://example.com/1.png"},
    {"action": "mute", "title": "Mute"},
]


def test_actions_are_read_as_they_are_stored() -> None:
    content = content_over({"title": "T", "icon_url": "https://example.com/i.png", "actions": STORED}, {})
    assert content == Content(
        "T",
        icon_url="https://example.com/i.png",
        actions=(
            Action("read", "Read", "https://example.com/1", "https://example.com/1.png"),
            Action("mute", "Mute"),
        ),
    )
    assert [action.stored for action in content.actions] == STORED


def test_an_override_takes_actions_away() -> None:
    for nothing in (None, []):
        assert content_over({"title": "T", "actions": STORED}, {"actions": nothing}) == Content("T")
    assert content_over({"title": "T"}, {"actions": STORED[1:]}).actions == (Action("mute", "Mute"),)
