"""Reports as files, for who is signed in.

Belongs here: the way from a session to the downloads of the API. Does not belong here: those
(``reports.download_routes``).

A link in a page carries no key; the session's cookie goes with it, and stands for the key that opened it.
"""

from flask import Request, Response
from pydantic import TypeAdapter

from ingest_api.dashboard.sessions import Session
from ingest_api.endpoint import Call
from ingest_api.errors import not_found
from ingest_api.fields import NotificationId
from ingest_api.inputs import read_path, read_query
from ingest_api.reports.download_routes import Table, download_details, download_reports
from ingest_api.reports.questions import DownloadQuery, OneQuery
from ingest_api.services import Services
from notify_pipeline.reports.reading_formats import Format

_ID: TypeAdapter[str] = TypeAdapter(NotificationId)


def reports(services: Services, request: Request, session: Session, form: str) -> Response:
    """Answer with the reports that the parameters ask for.

    Raises:
        ApiError: As ``GET /reports.{format}``.
    """
    if session.is_admin or form not in list(Format):
        raise not_found("There is no such file.")
    query = read_query(request, DownloadQuery)
    return download_reports(Call(services, request, session.key), format=Format(form), query=query)


def details(services: Services, request: Request, session: Session, name: str, table: str, form: str) -> Response:
    """Answer with what stands behind one report.

    Raises:
        ApiError: As ``GET /reports/{notification_id}/{table}.{format}``.
    """
    if session.is_admin or form not in list(Format) or table not in list(Table):
        raise not_found("There is no such file.")
    read_path({"notification_id": _ID}, {"notification_id": name})
    query = read_query(request, OneQuery)
    call = Call(services, request, session.key)
    return download_details(call, notification_id=name, table=Table(table), format=Format(form), query=query)
