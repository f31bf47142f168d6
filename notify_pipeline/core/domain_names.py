"""Names of domains and origins of pages, in the one spelling that they are stored and compared by.

Belongs here: what a name or an origin may look like. Does not belong here: whose a domain is (``ledger.domains``), what
a page may do (``ingest_api``).

A domain is a host: lower case, in ASCII (RFC 5890's A-labels), without a port. An origin is as browsers write it in the
header ``Origin`` (RFC 6454 section 6.1): scheme, host, and the port unless it is the scheme's own.
"""

import re
from ipaddress import IPv4Address

# RFC 1035 section 2.3.4, as it is written without the root's dot.
MAX_LENGTH = 253
# What a name may be written with: letters of any script, digits, hyphens and dots. ``host_name`` knows the rest.
WRITTEN_PATTERN = r"^[^\x00-,/:-@\[-`{-\x7f]{1,253}$"
# Pages without TLS have no push, but for those of one's own machine: browsers take these for secure.
# https://w3c.github.io/webappsec-secure-contexts/#is-origin-trustworthy
PLAIN_HOSTS = frozenset({"localhost", "127.0.0.1"})
# Beyond it an origin cannot be one: "https://", a host, and a port.
MAX_ORIGIN_LENGTH = 8 + MAX_LENGTH + 6

# RFC 1123 section 2.1.
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ORIGIN = re.compile(r"(https?)://([^:/?#@\[\]]+)(?::([1-9][0-9]{0,4}))?")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_PORT = 65_535


def host_name(text: str) -> str:
    """Return the spelling of a host that all its spellings share: lower case, other scripts as their A-labels.

    Raises:
        ValueError: It is no host name, nor an IPv4 address.
    """
    name = text.lower() if text.isascii() else _to_ascii(text)
    if len(name) > MAX_LENGTH or not _HOST.fullmatch(name):
        raise ValueError("must be a host name such as example.com, without a scheme, port or path")
    if name.rpartition(".")[2].isdigit():
        # Browsers read whatever ends in a number as an address, and write it their own way.
        # https://url.spec.whatwg.org/#ends-in-a-number-checker
        try:
            IPv4Address(name)
        except ValueError as error:
            raise ValueError("must be a host name, or an IPv4 address such as 127.0.0.1") from error
    return name


def origin(text: str) -> str:
    """Return an origin if it is written as browsers do.

    Raises:
        ValueError: It is no origin of a page that can have push, or written in another way.
    """
    found = _ORIGIN.fullmatch(text) if len(text) <= MAX_ORIGIN_LENGTH else None
    if found is None:
        raise ValueError("must be scheme://host or scheme://host:port, such as https://shop.example.com")
    scheme, host, port = found.groups()
    if host_name(host) != host:
        raise ValueError(f"must be written as browsers do: {host_name(host)}")
    if scheme == "http" and host not in PLAIN_HOSTS:
        raise ValueError("must be https, but for localhost and 127.0.0.1")
    if port is not None and (int(port) > _MAX_PORT or int(port) == _DEFAULT_PORTS[scheme]):
        raise ValueError("must be without a port, or with one that is not the scheme's own")
    return text


def own_origins(name: str) -> tuple[str, str]:
    """Return the origins whose pages are a domain's by its name alone."""
    return f"https://{name}", f"https://www.{name}"


def _to_ascii(text: str) -> str:
    # Only whoever writes other scripts needs its tables.
    import idna

    try:
        # As browsers do: mapped by UTS 46, then IDNA 2008.
        return idna.encode(text, uts46=True).decode()
    except idna.IDNAError as error:
        raise ValueError("must be a host name; this is none by IDNA's rules") from error
