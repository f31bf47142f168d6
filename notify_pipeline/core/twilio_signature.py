"""The signature by which Twilio proves that a request comes from it.

Belongs here: making and checking it. Does not belong here: reading requests (``ingest_api``).

HMAC-SHA1, with the account's auth token, of the URL as Twilio was given it followed by each form parameter's name and
value, sorted by name. https://www.twilio.com/docs/usage/security#validating-requests
"""

import base64
import hashlib
import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

HEADER = "X-Twilio-Signature"
_DEFAULT_PORTS = {"http": 80, "https": 443}


def signature(token: str, url: str, form: Iterable[tuple[str, str]]) -> str:
    """Return the header's value.

    Args:
        token: The account's auth token.
        url: With its query, as Twilio was told it.
        form: Decoded names and values, in any order; of a pair that comes twice one counts, as in Twilio's libraries.
    """
    text = url + "".join(name + value for name, value in sorted(set(form)))
    digest = hmac.new(token.encode(), text.encode("utf-8", "surrogatepass"), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def is_signed(token: str, url: str, form: Iterable[tuple[str, str]], given: str) -> bool:
    """Tell whether a request was signed with this token. Any text is allowed.

    Whether Twilio writes a default port into what it signs has changed; both are taken, as Twilio's libraries do.
    """
    pairs = list(form)
    presented = given.encode("utf-8", "surrogatepass")
    # Both are always made: how long it takes says nothing.
    matches = [hmac.compare_digest(signature(token, each, pairs).encode(), presented) for each in _spellings(url)]
    return any(matches)


def _spellings(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    port, host = _DEFAULT_PORTS.get(parts.scheme), parts.netloc
    if port is None or parts.port not in (None, port):
        return (url,)
    bare = host.removesuffix(f":{port}")
    return tuple(url.replace(f"//{host}", f"//{each}", 1) for each in (bare, f"{bare}:{port}"))
