"""Calling Amazon SNS: its certificates, and the address that confirms a subscription.

Belongs here: those two GETs. Does not belong here: which addresses may be called (``core.sns_messages`` has looked).
"""

import threading
from collections.abc import Callable

import requests
from cryptography import x509

# A certificate has 2 kB, a confirmation's answer 1 kB.
_MAX_BYTES = 65_536
# SNS waits for 15 s, and asks again.
_TIMEOUT_S = 5.0
# SNS has one at a time in each region, and changes it once in some years.
_MOST_KEPT = 64


class SnsUnreachable(Exception):
    """SNS did not answer as it should; holds no address."""


class SnsCalls:
    """What this process asks of SNS. Used from any thread."""

    def __init__(self, get: Callable[[str], bytes] | None = None) -> None:
        """Take what GETs an address; by default over HTTPS, as any AWS client would."""
        self._get = get or _get
        self._kept: dict[str, x509.Certificate] = {}
        self._guard = threading.Lock()

    def certificate(self, url: str) -> x509.Certificate:
        """Return a certificate, fetched once.

        Raises:
            SnsUnreachable: It could not be.
        """
        with self._guard:
            found = self._kept.get(url)
        if found is not None:
            return found
        try:
            found = x509.load_pem_x509_certificate(self._get(url))
        except ValueError as error:
            raise SnsUnreachable("SNS gave no certificate") from error
        with self._guard:
            if len(self._kept) >= _MOST_KEPT:
                self._kept.clear()
            self._kept[url] = found
        return found

    def confirm(self, url: str) -> None:
        """Confirm a subscription.

        Raises:
            SnsUnreachable: It could not be.
        """
        self._get(url)


def _get(url: str) -> bytes:
    try:
        with requests.get(url, timeout=_TIMEOUT_S, allow_redirects=False, stream=True) as response:
            if response.status_code != requests.codes.ok:
                raise SnsUnreachable(f"SNS answered {response.status_code}")
            found = b""
            for piece in response.iter_content(_MAX_BYTES):
                found += piece
                if len(found) > _MAX_BYTES:
                    raise SnsUnreachable("SNS gave more than it has")
            return found
    except requests.RequestException as error:
        raise SnsUnreachable(f"SNS cannot be reached: {type(error).__name__}") from error
