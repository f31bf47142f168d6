"""The page script, the service worker and the demo page as they are served.

Belongs here: their bytes, and the headers that let browsers use and keep them. Does not belong here: what they do
(``static``), the routes.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from ingest_api.served import Served

JAVASCRIPT = "text/javascript; charset=utf-8"
HTML = "text/html; charset=utf-8"
# For an hour browsers use it without asking, so that a page's view costs no request here; a day more while they ask.
_SCRIPT = [
    ("Cache-Control", "public, max-age=3600, stale-while-revalidate=86400"),
    # Pages of any site load it, those that isolate themselves too (Cross-Origin-Embedder-Policy: require-corp).
    ("Cross-Origin-Resource-Policy", "cross-origin"),
]
# Browsers that have it ask each time whether it is still the same: what they show shall not be a day behind.
_WORKER = [
    ("Cache-Control", "no-cache"),
    ("Cross-Origin-Resource-Policy", "cross-origin"),
    # For sites that pass /push/ on from their own origin: the worker may then serve any scope there.
    ("Service-Worker-Allowed", "/"),
]


@cache
def script() -> Served:
    """The page script."""
    return Served.made(_read("script.js"), JAVASCRIPT, _SCRIPT)


@cache
def worker() -> Served:
    """The service worker."""
    return Served.made(_read("worker.js"), JAVASCRIPT, _WORKER)


@cache
def demo() -> Served:
    """The demo page: one document, with its style and script inside, which its policy names by their digests."""
    style, code = _read("demo.css"), _read("demo.js")
    page = _read("demo.html").replace(b"/* style */", style).replace(b"/* script */", code)
    # The page speaks to its own origin only; icons of notifications may be anyone's.
    policy = (
        f"default-src 'none'; script-src 'self' {_digest(code)}; style-src {_digest(style)}; connect-src 'self'; "
        "worker-src 'self'; img-src 'self' https: data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
    headers = [
        ("Content-Security-Policy", policy),
        ("Cache-Control", "no-cache"),
        ("Referrer-Policy", "no-referrer"),
        ("X-Robots-Tag", "noindex, nofollow"),
    ]
    return Served.made(page, HTML, headers)


def _read(name: str) -> bytes:
    return files("ingest_api.push_script").joinpath("static", name).read_bytes()


def _digest(inline: bytes) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline).digest()).decode()}'"
