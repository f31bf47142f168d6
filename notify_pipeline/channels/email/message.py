"""An e-mail as bytes: headers, a text and an HTML part.

Belongs here: MIME and what headers hold. Does not belong here: what the texts say (``texts``), handing it over
(``pool``).

What is the same for all recipients is encoded once. Everything is ASCII in lines of 76 characters (quoted-printable,
encoded words), so that any relay takes it, and no value can end its header.
"""

import binascii
import html
import re
from dataclasses import dataclass
from datetime import datetime
from email.errors import HeaderParseError
from email.header import Header
from email.utils import format_datetime, formataddr

from notify_pipeline.channels.base import PAYLOAD_TOO_LARGE, ContentRejected, Message
from notify_pipeline.channels.email.texts import Text, page, plain, values_of
from notify_pipeline.channels.fields import Fields
from notify_pipeline.core import consents, mail_origin, unsubscribe_tokens
from notify_pipeline.core.ids import short_hash
from notify_pipeline.core.mail_addresses import is_mail_address
from notify_pipeline.core.mail_origin import Origin
from notify_pipeline.core.records import Notification, Recipient
from notify_pipeline.core.unsubscribe_tokens import Unsubscribing
from notify_pipeline.core.vocabulary import Channel, Platform

# Relays take some ten megabytes; but programs cut what they show off long before (Gmail at 102 kB), and a send to
# thousands is so many times as much.
MAX_BYTES = 1_000_000
# RFC 5322 section 2.1.1, without the line's end.
_MAX_LINE = 998
# Words cannot be folded, but encoded ones can.
_MOST_UNFOLDED = 200
# RFC 2045 section 6.7: "=" is followed by two hex digits or a line's end, so this stands in no encoded part.
_BOUNDARY = "=_notify_pipeline"
_SENDER = re.compile(r'"?(?P<name>[^"<>]*?)"?\s*<(?P<address>[^<>]+)>|(?P<alone>[^<>\s]+)')
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NOT_IN_TOKENS = re.compile(r"[^A-Za-z0-9_.\-]+")


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What all our mail has.

    Attributes:
        sender: The address that mail is from, and that bounces go to.
        name: What programs show for it; may be empty.
        public_url: Where the ingress is reached, without a trailing slash.
        unsubscribe_secret: Signs unsubscribe tokens.
        origin_secret: Proves whose a message is.
        configuration_set: Amazon SES's, which says where it reports what becomes of a message; None: its default.
    """

    sender: str
    name: str
    public_url: str
    unsubscribe_secret: bytes
    origin_secret: bytes
    configuration_set: str | None = None

    @property
    def domain(self) -> str:
        """Of the sender's address; message ids end with it."""
        return self.sender.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Mail(Message):
    """A prepared e-mail: its three texts, each with its encoded form where that is the same for all recipients."""

    subject: Text
    text: Text
    html: Text
    fields: Fields
    common: bytes  # header lines
    subject_line: bytes | None
    text_part: bytes | None
    html_part: bytes | None


def sender_of(setting: str) -> tuple[str, str]:
    """Return name and address of ``Name <address>`` or ``address``.

    Raises:
        ValueError: It is neither.
    """
    found = _SENDER.fullmatch(setting.strip())
    address = "" if found is None else found["address"] or found["alone"]
    if found is None or not is_mail_address(address):
        raise ValueError("must be an address, or a name and an address in angle brackets")
    return _one_line(found["name"] or ""), address


def prepare(notification: Notification, platform: Platform, letterhead: Letterhead) -> Mail:
    """Encode what all recipients get alike.

    Raises:
        ContentRejected: There is nothing to read in it, or too much, or it is no Unicode.
    """
    content = notification.content_on(Channel.EMAIL)
    if not (content.title or content.body or content.html):
        raise ContentRejected("no_content", "an e-mail needs a title, a body or html")
    footer = notification.category is not None
    fields = Fields(notification)
    sources = (content.title or "", plain(content, footer=footer), page(content, footer=footer))
    subject, text, page_ = (Text.of(source, fields) for source in sources)
    try:
        made = Mail(
            notification,
            platform,
            subject,
            text,
            page_,
            fields,
            _common(notification, letterhead),
            _subject(subject.filled([])) if subject.is_same_for_all else None,
            _part("plain", text.filled([])) if text.is_same_for_all else None,
            _part("html", page_.filled([])) if page_.is_same_for_all else None,
        )
    except UnicodeEncodeError as error:
        raise ContentRejected("invalid_text", f"the content cannot be written as UTF-8: {error.reason}") from None
    size = sum(map(len, (*made.text.pieces, *made.html.pieces, *made.subject.pieces)))
    if max(size, len(made.text_part or b"") + len(made.html_part or b"")) > MAX_BYTES:
        raise ContentRejected(PAYLOAD_TOO_LARGE, f"the mail would have more than {MAX_BYTES} bytes")
    return made


def render(mail: Mail, letterhead: Letterhead, recipient: Recipient, delivery_id: str, now: datetime) -> bytes:
    """Return one recipient's message, lines ended by CRLF; the same in every retry but for its date."""
    notification = mail.notification
    url = _unsubscribe_url(notification, letterhead, recipient)
    texts = mail.fields.texts(recipient)
    values = values_of(texts, url)
    origin = mail_origin.mint(letterhead.origin_secret, Origin(notification.tenant, delivery_id))
    own = [
        f"To: <{recipient.address}>",
        f"Message-ID: {message_id(delivery_id, letterhead)}",
        f"Date: {format_datetime(now)}",
        f"{mail_origin.HEADER}: {origin}",
        f"X-Notify-Notification: {notification.notification_id}",
    ]
    if len(unsubscribe := f"List-Unsubscribe: <{url}>") <= _MAX_LINE:
        # RFC 2369; RFC 8058: whoever posts that line of the second header to the address has unsubscribed.
        own += [unsubscribe, "List-Unsubscribe-Post: List-Unsubscribe=One-Click"]
    text = mail.text_part or _part("plain", mail.text.filled(values))
    page_ = mail.html_part or _part("html", mail.html.filled(values_of(texts, url, html.escape)))
    parts = [
        mail.common,
        "".join(f"{line}\r\n" for line in own).encode(),
        mail.subject_line or _subject(mail.subject.filled(values)),
        b"\r\n",
        *(f"--{_BOUNDARY}\r\n".encode() + part for part in (text, page_)),
        f"--{_BOUNDARY}--\r\n".encode(),
    ]
    return b"".join(parts)


def message_id(delivery_id: str, letterhead: Letterhead) -> str:
    """Return a delivery's message id: mail servers that get it twice can tell (RFC 5322 section 3.6.4)."""
    return f"<{delivery_id}@{letterhead.domain}>"


def _common(notification: Notification, letterhead: Letterhead) -> bytes:
    kind = _token(notification.category or notification.type)
    lines = [
        f"From: {_from(letterhead)}",
        "MIME-Version: 1.0",
        # RFC 3834: no vacation message answers it.
        "Auto-Submitted: auto-generated",
        # Senders who complain are counted by these four: campaign, customer, kind, and who we are.
        # https://support.google.com/a/answer/6254652
        f"Feedback-ID: {_token(notification.notification_id)[:32]}:{short_hash(notification.tenant)}:{kind}:notify",
        f'Content-Type: multipart/alternative; boundary="{_BOUNDARY}"',
    ]
    if letterhead.configuration_set is not None:
        lines.append(f"X-SES-CONFIGURATION-SET: {letterhead.configuration_set}")
    return "".join(f"{line}\r\n" for line in lines).encode()


def _from(letterhead: Letterhead) -> str:
    return formataddr((letterhead.name, letterhead.sender)) if letterhead.name else letterhead.sender


def _unsubscribe_url(notification: Notification, letterhead: Letterhead, recipient: Recipient) -> str:
    who = consents.recipient(recipient.user_id, Channel.EMAIL, recipient.address)
    about = Unsubscribing(notification.tenant, who, notification.category or "", Channel.EMAIL)
    return f"{letterhead.public_url}/unsubscribe/{unsubscribe_tokens.mint(letterhead.unsubscribe_secret, about)}"


def _subject(text: str) -> bytes:
    line = _one_line(text)
    # What looks like an encoded word (RFC 2047) in it shall be read as it is written.
    is_plain = line.isascii() and "=?" not in line and len(line) < _MOST_UNFOLDED
    try:
        made = Header(line, "us-ascii" if is_plain else "utf-8", header_name="Subject").encode(linesep="\r\n")
    except HeaderParseError:  # a long word that reads like a header of its own when the line is folded before it
        made = Header(line, "utf-8", header_name="Subject").encode(linesep="\r\n")
    return f"Subject: {made}\r\n".encode("ascii", "replace")


def _one_line(text: str) -> str:
    # No header ends before its time, whatever stands in a value.
    return " ".join(_CONTROLS.sub(" ", text).split()).encode("utf-8", "replace").decode()


def _part(kind: str, text: str) -> bytes:
    lines = _LINE_ENDS.sub("\r\n", text).encode()
    # It ends lines of its own as the first one of the text ends.
    body = binascii.b2a_qp(lines if lines.endswith(b"\r\n") else lines + b"\r\n", istext=True)
    head = f"Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    return head.encode() + body


def _token(text: str) -> str:
    return _NOT_IN_TOKENS.sub("-", text)
