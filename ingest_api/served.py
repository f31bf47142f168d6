"""Files that are served as they are.

Belongs here: sending one, packed to whoever takes it so, and not again to whoever has it. Does not belong here: which
files there are, and how long browsers may keep them.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from flask import Request, Response

from ingest_api.lean import LeanResponse

# Nothing here is secret or differs from caller to caller.
_COMMON = [("X-Content-Type-Options", "nosniff"), ("Vary", "Accept-Encoding")]


@dataclass(frozen=True, slots=True)
class Served:
    """A file, ready to be sent."""

    body: bytes
    packed: bytes  # with gzip
    tag: str
    content_type: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def made(cls, body: bytes, content_type: str, headers: Sequence[tuple[str, str]]) -> "Served":
        """Prepare a file."""
        # Weak: the same for both encodings (RFC 9110 section 8.8.3.3).
        tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
        return cls(body, gzip.compress(body, mtime=0), tag, content_type, (*_COMMON, *headers))

    def answer(self, request: Request) -> Response:
        """Answer with the file, or 304 to whoever has it."""
        headers = [*self.headers, ("ETag", self.tag)]
        if request.if_none_match.contains_weak(self.tag[3:-1]):
            response = LeanResponse(status=304, headers=headers)
            del response.headers["Content-Type"]
            return response
        if request.accept_encodings["gzip"]:
            return LeanResponse(
                self.packed, 200, [*headers, ("Content-Encoding", "gzip")], content_type=self.content_type
            )
        return LeanResponse(self.body, 200, headers, content_type=self.content_type)
