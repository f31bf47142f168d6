"""Reports as files.

Belongs here: those routes, and how many files go out at once. Does not belong here: formats and queries
(``reports.reading_formats``, ``reports.reading_downloads``), answers in JSON (``routes``, ``detail_routes``).
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Annotated

from flask import Response
from pydantic import Field

from ingest_api.endpoint import Answer, Call
from ingest_api.errors import not_found, unavailable
from ingest_api.fields import NotificationId
from ingest_api.keys import Access
from ingest_api.reports import asking
from ingest_api.reports.detail_routes import GROUP
from ingest_api.reports.questions import DownloadQuery, OneQuery, Rows, TimeSort
from ingest_api.reports.routes import GONE, NOT_CHANGED, UNKNOWN
from ingest_api.reports.serving import VALIDATOR_HEADERS, Served
from notify_pipeline.reports import reading_downloads
from notify_pipeline.reports.reading_details import Detail
from notify_pipeline.reports.reading_downloads import Download
from notify_pipeline.reports.reading_formats import Format

__all__ = ["GROUP"]

FormatInPath = Annotated[Format, Field(description="The file's form.")]
_HEADERS = {
    **VALIDATOR_HEADERS,
    "Content-Disposition": "`attachment`, with a name.",
    "Notify-Rows": "How many notifications (of a list), or rows, the file has.",
}
_FILE = Answer("The file.", headers=_HEADERS, content_types=tuple(each.content_type for each in Format))
_BUSY = "The ledger cannot take it now, or `downloads_busy`: too many files are being downloaded. Ask again."


class Table(StrEnum):
    """What of one report a file may have."""

    PLATFORMS = "platforms"
    TIMELINE = "timeline"
    FAILURES = "failures"
    LATENCIES = "latencies"


TableInPath = Annotated[Table, Field(description="Which rows.")]
_DETAILS = {
    Table.PLATFORMS: Detail.PLATFORMS,
    Table.TIMELINE: Detail.TIMELINE,
    Table.FAILURES: Detail.FAILURES,
    Table.LATENCIES: Detail.LATENCIES,
}


@GROUP.endpoint(
    "GET",
    "/reports.{format}",
    access=Access.SECRET,
    answers={200: _FILE, 304: NOT_CHANGED},
    errors={404: f"{GONE} Or the key sees no such organization.", 503: _BUSY},
)
def download_reports(call: Call, format: FormatInPath, query: DownloadQuery) -> Response:  # noqa: A002
    """Download reports.

    All that the filters fit, over a range of any length, from one published version. Times are in UTC with six
    decimals. CSV is RFC 4180 in UTF-8 with a line of names; `topics` is JSON in it, and a cell that a spreadsheet would
    take for a formula begins with a quote. A file that broke off cannot be read to its end: Parquet then lacks its
    footer, and of the others the last line cannot be parsed.
    """
    tenants = asking.tenants_of(call, query)
    where = asking.filter_of(query, tenants)
    version = asking.version_of(call, query.as_of)
    served = Served(call, version, tenants)
    if (known := served.known) is not None:
        return known

    def begun() -> Download:
        with asking.kept():
            return reading_downloads.of_list(
                call.services.reports,
                where,
                format,
                by_platform=query.rows is Rows.PLATFORMS,
                newest_first=query.sort is TimeSort.NEWEST,
                as_of=None if version is None else version.published_at,
            )

    return _sent(call, served, begun, format, "reports")


@GROUP.endpoint(
    "GET",
    "/reports/{notification_id}/{table}.{format}",
    access=Access.SECRET,
    answers={200: _FILE, 304: NOT_CHANGED},
    errors={404: f"{UNKNOWN} Or: {GONE}", 503: _BUSY},
)
def download_details(
    call: Call,
    notification_id: NotificationId,
    table: TableInPath,
    format: FormatInPath,  # noqa: A002
    query: OneQuery,
) -> Response:
    """Download what stands behind a report.

    All its rows, in the forms of the list's downloads.
    """
    (tenant,) = asking.tenants_of(call, query)
    version = asking.version_of(call, query.as_of)
    served = Served(call, version, (tenant,))
    if (known := served.known) is not None:
        return known
    as_of: datetime | None = None if version is None else version.published_at

    def begun() -> Download:
        with asking.kept():
            reports = call.services.reports
            found = reading_downloads.of_report(reports, _DETAILS[table], tenant, notification_id, format, as_of=as_of)
        if found is None:
            raise not_found("There is no report of this notification (yet).")
        return found

    return _sent(call, served, begun, format, table)


class _Sending:
    """A file on its way: whatever ends it, its version is let go, and its turn is the next one's."""

    def __init__(self, call: Call, begin: Callable[[], Download]) -> None:
        self._turns, self._tenant = call.services.downloads, call.tenant
        if not self._turns.take(self._tenant):
            raise unavailable("downloads_busy", "Too many files are being downloaded. Ask again.")
        self._is_open = True
        self._file: Download | None = None
        try:
            self._file = begin()
            self.rows = self._file.rows
            # What fails before the first piece is answered as what it is.
            self._pieces = chain([next(self._file.pieces, b"")], self._file.pieces)
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go; harmless when that was done."""
        if self._is_open:
            self._is_open = False
            if self._file is not None:
                self._file.close()
            self._turns.give_back(self._tenant)

    def __del__(self) -> None:
        # Servers drop what they will not send, and close only what they know.
        if getattr(self, "_is_open", False):
            self.close()


def _sent(call: Call, served: Served, begin: Callable[[], Download], format_: Format, name: str) -> Response:
    sending = _Sending(call, begin)
    if call.request.method == "HEAD":
        sending.close()
    return served.download(
        sending, format_.content_type, f"{name}.{format_}", is_packed=format_.is_packed, rows=sending.rows
    )
