"""Keys, certificates and credential files of the stand-ins, made once and kept.

Belongs here: making the certificate authority, the server certificate, the service account's RSA key and the APNs
signing key, and where they lie. Does not belong here: checking what a client signed with them (``oauth``, ``apns``).

Everything lies in one folder; private keys are readable by their owner only. Nothing here guards anything real.
"""

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PROJECT = "notify-sandbox"
CLIENT_EMAIL = f"sandbox@{PROJECT}.iam.gserviceaccount.com"
APNS_TOPIC = "com.example.notify"
# Key and team ids have ten characters at Apple.
# https://developer.apple.com/documentation/usernotifications/establishing-a-token-based-connection-to-apns
APNS_KEY_ID = "SANDBOXKEY"
APNS_TEAM_ID = "SANDBOXTEM"

_CA_LIFE = dt.timedelta(days=3650)
# 398 days is the longest that common TLS clients accept of a public server.
_SERVER_LIFE = dt.timedelta(days=398)
_RENEW_BEFORE = dt.timedelta(days=30)

EcKey = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the credential files lie, and the keys that the stand-ins check with."""

    ca: Path
    service_account: Path
    apns_key: Path
    tls: ssl.SSLContext
    account_public_key: rsa.RSAPublicKey
    apns_public_key: ec.EllipticCurvePublicKey
    token_secret: bytes


def prepare(folder: Path, token_uri: str, now: dt.datetime) -> Credentials:
    """Make what is missing in the folder, renew what runs out, and return all of it.

    The service account file is written at every start, because the token endpoint's port may have changed.

    Args:
        folder: Made with mode 0700 when it does not exist.
        token_uri: Where the service account asks for access tokens.
        now: Decides whether the server certificate must be renewed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls = server_tls(folder, now)
    tls.set_alpn_protocols(["h2"])
    account = _key(folder / "account-key.pem", _new_rsa)
    if not isinstance(account, rsa.RSAPrivateKey):
        raise ValueError(f"{folder / 'account-key.pem'} is not an RSA key; remove it to have it made again")
    apns = _ec_key(folder / "apns.p8")
    pem = (folder / "account-key.pem").read_text()
    _write_private(folder / "service-account.json", _service_account(pem, token_uri))
    return Credentials(
        ca=folder / "ca.pem",
        service_account=folder / "service-account.json",
        apns_key=folder / "apns.p8",
        tls=tls,
        account_public_key=account.public_key(),
        apns_public_key=apns.public_key(),
        token_secret=hashlib.blake2b(pem.encode(), digest_size=32, person=b"access-tokens").digest(),
    )


def server_tls(folder: Path, now: dt.datetime) -> ssl.SSLContext:
    """Return what a stand-in listens with: a certificate of the sandbox's CA, made where there is none."""
    certificate, key = _server_certificate(folder, now)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 9113 section 9.2
    tls.load_cert_chain(certificate, key)
    return tls


def _service_account(pem: str, token_uri: str) -> bytes:
    return orjson.dumps(
        {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": hashlib.sha256(pem.encode()).hexdigest()[:40],
            "private_key": pem,
            "client_email": CLIENT_EMAIL,
            "client_id": "100000000000000000001",
            "auth_uri": "https://accounts.google.com/o/oauth2/auth",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        },
        option=orjson.OPT_INDENT_2,
    )


def _new_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _new_ec() -> EcKey:
    return ec.generate_private_key(ec.SECP256R1())


def _key(path: Path, make: Callable[[], PrivateKeyTypes]) -> PrivateKeyTypes:
    if path.exists():
        return serialization.load_pem_private_key(path.read_bytes(), password=None)
    key = make()
    _write_private(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return key


def _ec_key(path: Path) -> EcKey:
    key = _key(path, _new_ec)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path} is not an elliptic-curve key; remove it to have it made again")
    return key


def _server_certificate(folder: Path, now: dt.datetime) -> tuple[Path, Path]:
    certificate, key_path = folder / "server.pem", folder / "server-key.pem"
    ca_path = folder / "ca.pem"
    if ca_path.exists() and certificate.exists() and key_path.exists():
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
        if loaded.not_valid_after_utc - _RENEW_BEFORE > now:
            return certificate, key_path
    ca_key = _ec_key(folder / "ca-key.pem")
    if ca_path.exists():
        ca = x509.load_pem_x509_certificate(ca_path.read_bytes())
    else:
        ca = _ca_certificate(ca_key, now)
        _write(ca_path, ca.public_bytes(serialization.Encoding.PEM), 0o644)
    key = _ec_key(key_path)
    leaf = _leaf_certificate(key.public_key(), ca, ca_key, now)
    _write(certificate, leaf.public_bytes(serialization.Encoding.PEM), 0o644)
    return certificate, key_path


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePublicKey, until: dt.datetime, now: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # a client's clock may be behind
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_certificate(key: EcKey, now: dt.datetime) -> x509.Certificate:
    name = "Notify sandbox CA"
    return (
        _builder(name, _name(name), key.public_key(), now + _CA_LIFE, now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _leaf_certificate(
    key: ec.EllipticCurvePublicKey, ca: x509.Certificate, ca_key: EcKey, now: dt.datetime
) -> x509.Certificate:
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    return (
        _builder("localhost", ca.subject, key, min(now + _SERVER_LIFE, ca.not_valid_after_utc), now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _write_private(path: Path, content: bytes) -> None:
    _write(path, content, 0o600)


def _write(path: Path, content: bytes, mode: int) -> None:
    # Whole or not at all: a torn key would be taken for a kept one at the next start.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
