"""How report answers travel: validators, whom they may be kept for, and gzip.

Belongs here: headers and encodings of these answers. Does not belong here: what is in them (the routes).

An answer follows from the version, the caller's tenants, the question, and of sends under way the ledger's counts. The
validator is a digest of these, so that nothing is queried for a caller who has the answer already. It is weak: the same
figures may come in other bytes, by compression or from another release of ours (RFC 9110, section 8.8.1).
"""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence

import orjson
from flask import Request, Response

from ingest_api.endpoint import Call, answer
from ingest_api.lean import LeanResponse, StreamedResponse
from notify_pipeline.reports.reading_lists import Version

VALIDATOR_HEADERS = {
    "ETag": "Weak; send it back in `If-None-Match`.",
    "Vary": "What the answer follows from beside the address.",
    "Cache-Control": "`private, no-cache`: keep it for this caller, and ask whether it is still the same.",
}
_COMMON = [
    ("Vary", "Accept-Encoding, Authorization, X-Api-Key, Notify-Organization"),
    ("Cache-Control", "private, no-cache"),
]
# Half of the size that the default level takes off costs a third of its time: 80 MB/s of one core.
_LEVEL = 3
# Below this nothing is won: it goes out in one packet anyway.
_SMALL = 1_000
# Raised when answers of the same question and version take another form.
_FORM = 1
_GZIP = zlib.MAX_WBITS | 16  # with gzip's header and trailer


class Served:
    """The answer to a question that may be there already."""

    def __init__(self, call: Call, version: Version | None, tenants: Sequence[str], token: str | None = "") -> None:
        """Take what the answer follows from, beside the question itself.

        Args:
            call: The question.
            version: The version it will be answered from.
            tenants: Whose rows it may have.
            token: A word for what the ledger adds; None where that cannot be told: then there is no validator.
        """
        self._request = call.request
        self._tag = None if token is None else _digest(call.request, version, tenants, token)

    @property
    def known(self) -> Response | None:
        """304 for a caller who has the answer; None otherwise."""
        asked = self._request.if_none_match
        if self._tag is None or not (asked.star_tag or asked.contains_weak(self._tag)):
            return None
        response = LeanResponse(status=304, headers=self._headers)
        del response.headers["Content-Type"]
        return response

    def answer(self, payload: object) -> Response:
        """Answer with JSON."""
        response = answer(200, payload, self._headers)
        body = response.get_data()
        if len(body) >= _SMALL and self._is_gzip_wanted:
            response.set_data(gzip.compress(body, _LEVEL, mtime=0))
            response.headers["Content-Encoding"] = "gzip"
        return response

    def download(
        self, pieces: Iterable[bytes], content_type: str, name: str, *, is_packed: bool, rows: int | None = None
    ) -> Response:
        """Answer with a file, piece by piece.

        Args:
            pieces: Its bytes.
            content_type: Its type.
            name: What it is to be saved as; ASCII without quotes.
            is_packed: It is compressed as it is.
            rows: How many it has, where that is known.
        """
        headers = [*self._headers, ("Content-Disposition", f'attachment; filename="{name}"')]
        headers.append(("X-Content-Type-Options", "nosniff"))
        if rows is not None:
            headers.append(("Notify-Rows", str(rows)))
        if not is_packed and self._is_gzip_wanted:
            headers.append(("Content-Encoding", "gzip"))
            pieces = _packed(pieces)
        return StreamedResponse(pieces, 200, headers, content_type=content_type)

    @property
    def _headers(self) -> list[tuple[str, str]]:
        return [*_COMMON, *([("ETag", f'W/"{self._tag}"')] if self._tag is not None else ())]

    @property
    def _is_gzip_wanted(self) -> bool:
        return self._request.accept_encodings["gzip"] > 0


def _digest(request: Request, version: Version | None, tenants: Sequence[str], token: str) -> str:
    published = None if version is None else (version.number, version.published_at)
    asked = [request.path, sorted(request.args.items())]
    parts = orjson.dumps([_FORM, published, sorted(tenants), asked, token])
    return hashlib.blake2b(parts, digest_size=16).hexdigest()


def _packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Compress on the way. A body that breaks off lacks the trailer, and no reader takes it for a whole one."""
    packer = zlib.compressobj(_LEVEL, wbits=_GZIP)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()
