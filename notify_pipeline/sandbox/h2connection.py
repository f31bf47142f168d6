"""``h2``'s connection object, set up for a server with thousands of short streams.

Belongs here: configuration of ``h2`` and the one place where its cost is avoided. Does not belong here: what is done
with streams (``h2server``).

``h2`` counts open streams by walking over them at each request, which is quadratic in the number in flight. The server
counts them itself and enforces the limit itself, with RST_STREAM instead of ending the connection (RFC 9113
section 5.1.2).
"""

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

# One connection's receive window: far above what is in flight, so that clients never wait for WINDOW_UPDATE.
CONNECTION_WINDOW = 1 << 24
_STREAM_WINDOW = 1 << 20
# Closed streams are swept out of h2's table once in so many requests.
_SWEEP_EVERY = 256


class _Connection(H2Connection):
    _calls = 0

    @property
    def open_inbound_streams(self) -> int:
        """Say 0, so that h2's own limit never strikes; sweep closed streams now and then."""
        self._calls += 1
        if self._calls % _SWEEP_EVERY == 0:
            self._open_streams(1)
        return 0


def new_connection(first_streams: int) -> H2Connection:
    """Return a server-side connection that will announce this many streams at first."""
    connection = _Connection(
        H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
    )
    connection.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: first_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: 32_768,
        },
    )
    return connection
