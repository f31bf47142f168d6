"""The frame around every page.

Belongs here: the document, the header with its navigation, what is shown where there is nothing. Does not belong here:
pages (``pages``), what the frame looks like (``assets/style.css``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from ingest_api.dashboard.page import HOME, Page, View
from ingest_api.dashboard.sessions import Session
from ingest_api.dashboard.widgets import aria, data

TITLE = "Notify"
# Everything comes from here: scripts are files, and Dash's one line that starts it. Dash's parts and Plotly make styles
# while they run: these have the document's nonce, which ``theme.js`` gives them; styles in markup would not.
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'nonce-{nonce}'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_DOCUMENT = """<!doctype html>
<html lang="en">
<head>
{metas}
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/dashboard/assets/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/dashboard/assets/style.css">
<script src="/dashboard/assets/theme.js" nonce="{nonce}"></script>
{css}
</head>
<body>
<a class="skip" href="#page">Skip to content</a>
{app_entry}
<noscript>These pages need JavaScript.</noscript>
<footer>
{config}
{scripts}
<script src="/dashboard/assets/pages.js"></script>
{renderer}
</footer>
</body>
</html>
"""


def policy(scripts: Sequence[str], nonce: str) -> str:
    """Return a document's content security policy, given the digests of Dash's inline scripts."""
    return _POLICY.format(scripts=" ".join(scripts), nonce=nonce)


def document(parts: Mapping[str, str], nonce: str) -> str:
    """Return the document that Dash fills."""
    return _DOCUMENT.format(**parts, nonce=nonce)


def layout(owner: str, session: Session, pages: Sequence[Page]) -> Any:
    """Return what stays while pages come and go."""
    return html.Div(
        [
            dcc.Location(id="address", refresh=False),
            html.Header(
                [
                    dcc.Link([_mark(), html.Span(TITLE)], href=HOME, className="brand"),
                    html.Nav(navigation(session, pages, None), id="navigation", **aria(label="Pages")),
                    html.Div(
                        [
                            html.Span(owner, className="owner", title="Signed in for"),
                            html.Button("Theme", type="button", className="button", id="theme", disable_n_clicks=True),
                            html.Form(
                                html.Button("Sign out", type="submit", className="button", disable_n_clicks=True),
                                method="post",
                                action="/dashboard/sign-out",
                            ),
                        ],
                        className="tools",
                    ),
                ],
                className="top",
            ),
            html.Main(id="page", tabIndex=-1, **data(title="", path="")),
            html.Div(id="said", role="status", className="unseen", **aria(live="polite")),
        ],
        className="frame",
    )


def navigation(session: Session, pages: Sequence[Page], here: Page | None) -> list[Any]:
    """Return the links to the pages that a session may see."""
    shown = [page for page in pages if page.name and session.key.scope in page.scopes]
    return [
        html.Span(
            dcc.Link(page.name, href=HOME + page.path),
            className="here" if here is not None and page.path == here.path else "",
            **(aria(current="page") if here is not None and page.path == here.path else {}),
        )
        for page in shown
    ]


def nothing(message: str) -> View:
    """Return what is shown at an address where there is nothing."""
    content = html.Div(
        [
            html.H1("Not found"),
            html.P(message),
            html.P(dcc.Link("Back to the start", href=HOME)),
        ],
        className="empty",
    )
    return View("Not found", content)


def _mark() -> Any:
    return html.Span(className="mark", **aria(hidden="true"))
