"""What a reader sees of HTML, roughly: the text part of a message that has only a page.

Belongs here: reading markup, in time that grows with its length and no faster. Does not belong here: what a message
says (``texts``).

Whoever sends writes the markup, and this runs where all sends are sent from. ``html.parser`` takes half a minute for
40 KB of ``<a <a <a ...``, and raises at ``<![x[``; nothing here looks at a character more than a few times.
"""

import html
import re

# Elements that end a line of text, and those whose content is none.
_BREAKS = frozenset({"br", "p", "div", "tr", "table", "li", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "hr"})
_HIDDEN = frozenset({"style", "script", "head", "title", "template"})
# Their content ends at their own end tag, whatever stands in it.
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("style", "script", "title")}
# A name, and everything up to the tag's end, which is no ">" in a quoted value. Possessive: what has been taken is not
# given back, so a tag without an end is read once.
_TAG = re.compile(r"""<(/?)([A-Za-z][^\s/>]*+)((?:=\s*+(?:"[^"]*+"|'[^']*+')|[^>])*+)>""")
_HREF = re.compile(r"""(?:\s|/|\A)href\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""", re.IGNORECASE)
# Another scheme opens nothing in a text, and links have no use for more than a browser takes.
_WEB = re.compile(r"https?://", re.IGNORECASE)
_MAX_LINK = 2_048
# What is no number of a character; ``html.unescape`` raises at those of thousands of digits.
_LONG_NUMBER = re.compile(r"&#[xX]?[0-9a-fA-F]{9,}+;?")
_SPACES = re.compile(r"[ \t]+")
_BLANK = re.compile(r"\n{3,}")


def as_text(source: str) -> str:
    """Return a page's text, a line per block, addresses of links in brackets."""
    reader = _Reader()
    at = 0
    while (start := source.find("<", at)) >= 0:
        reader.text(source[at:start])
        if (end := _end_of_markup(source, start, reader)) is None:
            reader.text("<")
            at = start + 1
        else:
            at = end
    reader.text(source[at:])
    lines = (_SPACES.sub(" ", line).strip() for line in "".join(reader.found).split("\n"))
    return _BLANK.sub("\n\n", "\n".join(lines)).strip()


def _end_of_markup(source: str, start: int, reader: "_Reader") -> int | None:
    """Return where the markup at a ``<`` ends; None where it is just that sign.

    What has no end goes to the end of the page, as in browsers: so nothing is searched for in vain twice.
    """
    after = source[start + 1 : start + 2]
    if after in ("!", "?"):
        is_comment = source.startswith("<!--", start)
        closing = "-->" if is_comment else ">"
        # "<!-->" is a whole comment.
        found = source.find(closing, start + (2 if is_comment else 1))
        return len(source) if found < 0 else found + len(closing)
    name = source[start + 2 : start + 3] if after == "/" else after
    if not (name.isascii() and name.isalpha()):
        return None
    tag = _TAG.match(source, start)
    if tag is None:
        return len(source)
    element = tag[2].lower()
    if tag[1]:
        reader.closed(element)
        return tag.end()
    reader.opened(element, tag[3])
    if element not in _RAW_END:
        return tag.end()
    raw_end = _RAW_END[element].search(source, tag.end())
    return len(source) if raw_end is None else raw_end.start()


class _Reader:
    def __init__(self) -> None:
        self.found: list[str] = []
        self._hidden = 0
        self._links: list[str | None] = []

    def text(self, said: str) -> None:
        if said and not self._hidden:
            self.found.append(_unescaped(said.replace("\n", " ")))

    def opened(self, element: str, attributes: str) -> None:
        self._hidden += element in _HIDDEN
        if element in _BREAKS:
            self.found.append("\n")
        if element == "a":
            self._links.append(_href(attributes))

    def closed(self, element: str) -> None:
        self._hidden -= element in _HIDDEN and self._hidden > 0
        if element in _BREAKS:
            self.found.append("\n")
        if element == "a" and self._links and (link := self._links.pop()):
            self.found.append(f" ({link})")


def _href(attributes: str) -> str | None:
    found = _HREF.search(attributes)
    if found is None:
        return None
    link = _unescaped(found[1] or found[2] or found[3] or "").strip()
    return link if _WEB.match(link) and len(link) <= _MAX_LINK and link.isprintable() else None


def _unescaped(text: str) -> str:
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text
