"""What a site's pages load to make their visitors' browsers contacts.

Belongs here: the routes of those files. Does not belong here: the files' bytes and headers (``files``), what the script
calls (``domains``, ``push_contacts``).
"""

from flask import Response

from ingest_api.endpoint import Answer, Call, Group
from ingest_api.keys import Access
from ingest_api.push_script import files

GROUP = Group("push script", "What the pages of a site load.")
_UNCHANGED = Answer("It is what `If-None-Match` names.")


@GROUP.endpoint(
    "GET",
    "/push/script.js",
    access=Access.PUBLIC,
    answers={200: Answer("The script.", content_type=files.JAVASCRIPT), 304: _UNCHANGED},
)
def show_push_script(call: Call) -> Response:
    """Serve the page script.

    `<script src="…/push/script.js" data-domain="example.com"></script>`
    """
    return files.script().answer(call.request)


@GROUP.endpoint(
    "GET",
    "/push/worker.js",
    access=Access.PUBLIC,
    answers={200: Answer("The service worker.", content_type=files.JAVASCRIPT), 304: _UNCHANGED},
)
def show_push_worker(call: Call) -> Response:
    """Serve the service worker, for a site's own to import.

    `importScripts("…/push/worker.js")`
    """
    return files.worker().answer(call.request)


@GROUP.endpoint(
    "GET",
    "/push/demo",
    access=Access.PUBLIC,
    answers={200: Answer("A page.", content_type=files.HTML), 304: _UNCHANGED},
)
def show_push_demo(call: Call) -> Response:
    """Serve a page on which a developer makes this browser a contact.

    `/push/demo?domain=example.com`
    """
    return files.demo().answer(call.request)
