"""The page behind a message's unsubscribe link.

Belongs here: its HTML. Does not belong here: what its buttons do (``routes``).

One document without scripts, images or anything from elsewhere: it works in every mail program's browser, with a
keyboard and a screen reader, and tells nobody that it was opened.
"""

from dataclasses import dataclass
from html import escape

from notify_pipeline.core.vocabulary import Channel

# A form may only be sent to where the page is from.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = [
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    # The address is the right to unsubscribe: no other host is told, no search engine keeps it, no proxy.
    ("Referrer-Policy", "no-referrer"),
    ("X-Robots-Tag", "noindex, nofollow"),
    ("Cache-Control", "no-store"),
]
_BY = {
    Channel.EMAIL: "by e-mail",
    Channel.SMS: "by text message",
    Channel.FCM: "as push notifications",
    Channel.APNS: "as push notifications",
    Channel.WEBPUSH: "as browser notifications",
    Channel.WEBSOCKET: "inside the app",
    Channel.INBOX: "in the app's inbox",
}
_STYLE = """
:root { color-scheme: light dark; }
body { font: 1.125rem/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 36rem; margin: 0 auto; padding: 2rem 1rem; }
button { font: inherit; padding: .75rem 1rem; margin: .5rem 0; min-height: 3rem; width: 100%; cursor: pointer; }
[role=status] { border-inline-start: .25rem solid; padding-inline-start: 1rem; }
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page says.

    Attributes:
        sender: The tenant's name.
        category: What the message was about; empty where it had no category.
        channel: How it came.
        wanted: Whether more of it would come now.
        everything: Whether all that comes by this channel was refused.
        mandatory: Whether it comes whatever the reader says.
        changed: Whether the reader has just changed something.
    """

    sender: str
    category: str
    channel: Channel
    wanted: bool
    everything: bool
    mandatory: bool
    changed: bool


def html(shown: Shown) -> str:
    """Return the page."""
    buttons = "\n".join(_button(choice, words) for choice, words in _choices(shown))
    role = ' role="status"' if shown.changed else ""
    title = f"{'Unsubscribe' if shown.wanted else 'Unsubscribed'}: {escape(shown.sender)}"
    return _document(
        title,
        f"""<h1>{escape(shown.sender)}</h1>
<p{role}>{_standing(shown)}</p>
<form method="post">
{buttons}
</form>""",
    )


def _standing(shown: Shown) -> str:
    what, by = _what(shown), _BY[shown.channel]
    if shown.mandatory:
        return f"You get {what} {by}. These have to be sent, so they cannot be turned off."
    if shown.wanted:
        return f"You get {what} {by}. Do you want no more of them?"
    if shown.everything:
        return f"You are unsubscribed from everything that {escape(shown.sender)} sends {by}."
    return f"You are unsubscribed from {what} {by}."


def _choices(shown: Shown) -> list[tuple[str, str]]:
    what, by = _what(shown), _BY[shown.channel]
    stop = f"Stop {what} {by}"
    stop_all = f"Stop everything {by}"
    found = []
    if shown.wanted and not shown.mandatory and shown.category:
        found.append(("category", stop))
    if not shown.everything:
        found.append(("channel", stop_all))
    if not shown.wanted:
        found.append(("again", f"Undo: send me {what} again"))
    if shown.everything and shown.category:
        found.append(("everything_again", f"Undo: send me everything {by} again"))
    return found


def _button(choice: str, words: str) -> str:
    return f'<button type="submit" name="choice" value="{choice}">{words}</button>'


def _what(shown: Shown) -> str:
    return f"messages about “{escape(shown.category)}”" if shown.category else "messages"


def _document(title: str, main: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{main}
</main>
</body>
</html>
"""


# What a browser shows of a link that is none.
UNKNOWN = _document(
    "Unknown link",
    """<h1>This link does not work</h1>
<p>A part of it may be missing. Please open it in the message itself, or copy all of it.</p>""",
)
