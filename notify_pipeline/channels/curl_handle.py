"""One libcurl easy handle that carries request after request, and the reading of its results.

Belongs here: what libcurl's callbacks, options and error codes mean for one request. Does not belong here: many of
them at once (``curl_transport``), anything that knows a provider.

libcurl resends a request by itself when the connection it reused dies before the first byte of an answer, or when
the peer refuses the stream. The first may send twice what nobody knows to be ambiguous. So the body is read through a
callback that cannot be rewound: libcurl then gives up with error 65 instead of resending, and leaves the decision to
us.
"""

from pathlib import Path

import pycurl

from notify_pipeline.channels.transport import Answer, End, Headers, NotProcessed, Request, Unknown

# The longest answers of FCM and APNs are a few kilobytes; a peer that sends more is cut off.
MAX_ANSWER_BYTES = 65_536
# libcurl's text when it wanted to resend and nothing but the refused rewind stood in its way. It keeps the first
# error's text, so a connection that died leaves TLS's or the socket's words instead.
_ONLY_REWIND_FAILED = f"seek callback returned error {pycurl.SEEKFUNC_FAIL}"
# https://curl.se/libcurl/c/libcurl-errors.html
_REASONS = {
    pycurl.E_COULDNT_RESOLVE_HOST: "dns",
    pycurl.E_COULDNT_CONNECT: "connect",
    pycurl.E_HTTP2: "http2",
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_SSL_CONNECT_ERROR: "tls",
    pycurl.E_SEND_ERROR: "connection_lost",
    pycurl.E_RECV_ERROR: "connection_lost",
    pycurl.E_PEER_FAILED_VERIFICATION: "tls",
    pycurl.E_SEND_FAIL_REWIND: "connection_lost",
    92: "reset",  # CURLE_HTTP2_STREAM, which pycurl does not name
}
_CONNECT_TIMEOUT_S = 5.0
# Errors after which the connection is not to be trusted.
BROKEN = frozenset({pycurl.E_HTTP2, pycurl.E_SEND_ERROR, pycurl.E_RECV_ERROR, pycurl.E_SEND_FAIL_REWIND})
# Errors of a connection that never came to be.
UNREACHABLE = frozenset(
    {
        pycurl.E_COULDNT_RESOLVE_HOST,
        pycurl.E_COULDNT_CONNECT,
        pycurl.E_SSL_CONNECT_ERROR,
        pycurl.E_PEER_FAILED_VERIFICATION,
    }
)


class Handle:
    """An easy handle, reused from request to request, with what its callbacks need."""

    __slots__ = ("_base", "_body", "_fresh", "_headers", "_lines", "_offset", "_parts", "_path", "curl", "number")

    def __init__(self, base_url: str, ca: Path, timeout_s: float) -> None:
        """Args: base_url: without a trailing slash. ca: bundle to trust. timeout_s: for each request as a whole."""
        self.curl = curl = pycurl.Curl()
        self.number = 0
        self._base = base_url
        self._path = ""
        self._headers: Headers | None = None
        self._fresh = False
        self._body = b""
        self._offset = 0
        self._lines: list[bytes] = []
        self._parts: list[bytes] = []
        curl.setopt(pycurl.READFUNCTION, self._read)
        curl.setopt(pycurl.SEEKFUNCTION, _refuse_rewind)
        curl.setopt(pycurl.HEADERFUNCTION, self._lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, self._parts.append)
        curl.setopt(pycurl.POST, 1)
        # Over TLS this offers h2 alone: on HTTP/1.1 one connection would carry one request at a time.
        curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(pycurl.PIPEWAIT, 1)
        curl.setopt(pycurl.CAINFO, str(ca))
        curl.setopt(pycurl.NOSIGNAL, 1)
        curl.setopt(pycurl.NOPROXY, "*")
        timeout_ms = max(1, round(timeout_s * 1000))
        curl.setopt(pycurl.TIMEOUT_MS, timeout_ms)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, min(timeout_ms, round(_CONNECT_TIMEOUT_S * 1000)))
        curl.setopt(pycurl.MAXFILESIZE, MAX_ANSWER_BYTES)

    def _read(self, size: int) -> bytes:
        """Give libcurl the next piece of the body."""
        piece = self._body[self._offset : self._offset + size]
        self._offset += len(piece)
        return piece

    def load(self, request: Request, *, fresh: bool) -> None:
        """Point the handle at a request, touching only what differs from its last one.

        Args:
            request: What to send.
            fresh: Insist on a new connection.
        """
        curl = self.curl
        number, path, headers, body = request
        if path != self._path:
            curl.setopt(pycurl.URL, self._base + path)
            self._path = path
        if headers is not self._headers:
            curl.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers])
            self._headers = headers
        if not body:
            raise ValueError("a request needs a body")
        if fresh is not self._fresh:
            curl.setopt(pycurl.FRESH_CONNECT, fresh)
            self._fresh = fresh
        curl.setopt(pycurl.POSTFIELDSIZE, len(body))
        self.number, self._body, self._offset = number, body, 0
        self._lines.clear()
        self._parts.clear()

    def end(self, errno: int, text: str) -> End:
        """Read libcurl's result as the request's end."""
        status: int = self.curl.getinfo(pycurl.RESPONSE_CODE) if self._lines else 0
        if errno == 0 and status:
            return Answer(status, _parse_headers(self._lines), b"".join(self._parts))
        reason, detail = _REASONS.get(errno, f"curl_{errno}"), f"curl error {errno}: {text}"
        if self._offset == 0:
            return NotProcessed(reason, detail)
        if status >= 200:
            # The verdict arrived and its explanation did not, or not all. A success stays one; a refusal had no
            # effect, and asking again tells why.
            if status < 300 or errno == pycurl.E_FILESIZE_EXCEEDED:
                return Answer(status, _parse_headers(self._lines), b"".join(self._parts))
            return NotProcessed("torn_answer", f"status {status}, then {detail}")
        if errno == pycurl.E_SEND_FAIL_REWIND and text == _ONLY_REWIND_FAILED:
            return NotProcessed("refused", "the peer refused the stream or said goodbye before it")
        return Unknown(reason, detail)

    def interrupted(self, reason: str) -> End:
        """The end of a request that is given up half-way."""
        return Unknown(reason) if self._offset else NotProcessed(reason)


def _refuse_rewind(_offset: int, _origin: int) -> int:
    return pycurl.SEEKFUNC_FAIL


def _parse_headers(lines: list[bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if colon:
            headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
        elif line.startswith(b"HTTP/"):  # a further block: those before it were informational
            headers.clear()
    return headers
