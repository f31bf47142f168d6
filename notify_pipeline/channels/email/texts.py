"""Texts of an e-mail: personal fields filled, HTML made of what has none, text made of HTML.

Belongs here: what a person reads. Does not belong here: headers and encodings (``message``).
"""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from notify_pipeline.channels.email.reading import as_text
from notify_pipeline.channels.fields import Fields
from notify_pipeline.core.personal import FIELD, literal
from notify_pipeline.core.records import Content

# What stands for the unsubscribe link in a text; a NUL cannot be in any content.
UNSUBSCRIBE = "\0unsubscribe\0"
_PLACE = re.compile(f"{FIELD.pattern}|({UNSUBSCRIBE})")
# Its place, whatever fields there are: the last.
_LAST = -1
_FOOTER = "Unsubscribe"
_BODY_END = re.compile(r"</body\s*>", re.IGNORECASE)
_WEB = re.compile(r"https?://", re.IGNORECASE)
# Mail programs show no more than these styles alike: no sheet, no class.
_PAGE = """<!DOCTYPE html>
<html>
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body style="margin:0 auto;max-width:600px;padding:16px;font-family:sans-serif;line-height:1.5">
{parts}
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Text:
    """A text with places: what stands before each, and what belongs there."""

    pieces: tuple[str, ...]
    places: tuple[int, ...]  # of personal fields; ``_LAST``: the unsubscribe link

    @property
    def is_same_for_all(self) -> bool:
        """True when no recipient's differs from another's."""
        return not self.places

    @classmethod
    def of(cls, source: str, fields: Fields) -> "Text":
        """Find the places in a text. Names that are no field's stay as they are."""
        pieces: list[list[str]] = [[]]
        places, start = [], 0
        for found in _PLACE.finditer(source):
            pieces[-1].append(source[start : found.start()])
            start = found.end()
            place = _LAST if found[2] else fields.read(found[1])
            if isinstance(place, str):
                pieces[-1].append(place)
                continue
            places.append(place)
            pieces.append([])
        pieces[-1].append(source[start:])
        return cls(tuple(map("".join, pieces)), tuple(places))

    def filled(self, values: Sequence[str]) -> str:
        """Return the text with these values, by place, in it."""
        if not self.places:
            return self.pieces[0]
        made = [self.pieces[0]]
        for place, piece in zip(self.places, self.pieces[1:], strict=True):
            made += (values[place], piece)
        return "".join(made)


def values_of(texts: Sequence[str | None], unsubscribe_url: str, escape: Callable[[str], str] = str) -> Sequence[str]:
    """Return what goes into places, of a recipient's texts (``Fields.texts``)."""
    return [escape(text or "") for text in (*texts, unsubscribe_url)]


def plain(content: Content, *, footer: bool) -> str:
    """Return the text part: the body, or what can be read of the HTML; then the link, and how to unsubscribe."""
    said = content.body or (as_text(content.html) if content.html else content.title) or ""
    link = literal(content.link) if content.link and content.link not in said else None
    parts = [said, link, f"-- \n{_FOOTER}: {UNSUBSCRIBE}" if footer else None]
    return "\n\n".join(part for part in parts if part) + "\n"


def page(content: Content, *, footer: bool) -> str:
    """Return the HTML part: the sender's own, or one made of title, image, body and link, all escaped."""
    end = f'<p style="color:#666;font-size:small"><a href="{UNSUBSCRIBE}">{_FOOTER}</a></p>' if footer else ""
    if content.html:
        return _with_footer(content.html, end)
    title, body = (html.escape(text or "") for text in (content.title, content.body))
    parts = [
        f'<h1 style="font-size:1.4em">{title}</h1>' if title else "",
        _image(content),
        "<p>" + body.replace("\r\n", "\n").replace("\n", "<br>\n") + "</p>" if body else "",
        _link(content),
        end,
    ]
    return _PAGE.format(title=title, parts="\n".join(part for part in parts if part))


def _with_footer(source: str, end: str) -> str:
    ends = [found.start() for found in _BODY_END.finditer(source)] or [len(source)]
    return source[: ends[-1]] + end + source[ends[-1] :]


def _image(content: Content) -> str:
    url = content.image_url
    return f'<p><img src="{_verbatim(url)}" alt="" style="max-width:100%"></p>' if url and _WEB.match(url) else ""


def _link(content: Content) -> str:
    # An app's own scheme opens nothing in a mail program, and others could do harm there.
    url = content.link
    return f'<p><a href="{_verbatim(url)}">{_verbatim(url)}</a></p>' if url and _WEB.match(url) else ""


def _verbatim(url: str) -> str:
    """Return an address escaped, its brackets included: personal fields are for texts."""
    return literal(html.escape(url))
