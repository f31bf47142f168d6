"""The first page: the notifications of a range of days.

Belongs here: what that page shows. Does not belong here: queries (``reports.reading_*``), one notification's page.
"""

from dash import Dash, html

from ingest_api.dashboard.page import Page, View, Visit
from ingest_api.services import Services
from notify_pipeline.core.vocabulary import KeyScope


def _view(services: Services, visit: Visit) -> View:
    return View("Notifications", [html.H1("Notifications"), html.P(repr(dict(visit.query)))])


def _register(dash: Dash, services: Services) -> None:
    pass


PAGE = Page("", "Notifications", frozenset({KeyScope.SECRET}), _view, _register)
