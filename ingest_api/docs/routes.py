"""The document and the page that shows it.

Belongs here: serving both. Does not belong here: making the document (``openapi``).
"""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files

import orjson
from flask import Blueprint, Response

from ingest_api.endpoint import Group
from ingest_api.errors import not_found
from ingest_api.lean import LeanResponse
from ingest_api.openapi import document

# Everything comes from here: a browser that shows this page speaks to no other host, and runs no inline script. The
# page's own script sets inline styles and draws icons from data URLs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_ASSETS = {
    "swagger-ui.css": "text/css; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "favicon-32x32.png": "image/png",
}
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>notify-pipeline API</title>
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<main id="page"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
# validatorUrl: the page would otherwise send the document's address to a public service.
_START = b"""SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#page",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout"
});
"""


def blueprint(groups: Sequence[Group], version: str) -> Blueprint:
    """Build the blueprint that serves the document of these groups and its page."""
    made = Blueprint("docs", __name__)

    @cache
    def rendered() -> bytes:
        return orjson.dumps(document(groups, version))

    def show_document() -> Response:
        return LeanResponse(rendered(), content_type="application/json")

    def show_page() -> Response:
        return _served(_PAGE, "text/html; charset=utf-8")

    def show_asset(name: str) -> Response:
        if name == "start.js":
            return _served(_START, _ASSETS["swagger-ui-bundle.js"])
        if name not in _ASSETS:
            raise not_found("There is no such route.")
        return _served(_asset(name), _ASSETS[name])

    views: dict[str, Callable[..., Response]] = {
        "/openapi.json": show_document,
        "/docs": show_page,
        "/docs/<name>": show_asset,
    }
    for rule, view in views.items():
        made.add_url_rule(rule, view_func=view, methods=["GET"], provide_automatic_options=False)
    return made


@cache
def _asset(name: str) -> bytes:
    return files("flask_swagger_ui").joinpath("dist", name).read_bytes()


def _served(body: bytes, content_type: str) -> Response:
    return LeanResponse(body, headers=_HEADERS, content_type=content_type)
