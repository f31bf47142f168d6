"""HTTP/2 servers that others wrote, each as a process of its own: nghttpd, nginx, h2o, Node."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.channels.peer import make_certificates
from tests.waiting import PATIENCE_S

DOCUMENT = b'{"name": "projects/p/messages/1"}\n'
_SBIN = "/usr/sbin:/usr/local/sbin"


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def needs(program: str, package: str) -> pytest.MarkDecorator:
    """Skip where the machine has no such server."""
    return pytest.mark.skipif(_find(program) is None, reason=f"{program} is not installed (Debian: {package})")


needs_nghttpd = needs("nghttpd", "nghttp2-server")
needs_nginx = needs("nginx", "nginx-light")
needs_h2o = needs("h2o", "h2o")
needs_node = needs("node", "nodejs")


@dataclass(frozen=True)
class Server:
    """Where it listens, whom to trust, and its process."""

    url: str
    ca: Path
    process: "subprocess.Popen[bytes]"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen")


@contextlib.contextmanager
def _run(command: Sequence[str], port: int, ca: Path) -> Iterator[Server]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait(port, process)
            yield Server(f"https://127.0.0.1:{port}", ca, process)
        finally:
            process.kill()


@contextlib.contextmanager
def nghttpd(folder: Path, *options: str) -> Iterator[Server]:
    """Serve ``DOCUMENT`` at /send and 404 elsewhere."""
    ca, leaf = make_certificates(folder)
    (folder / "www").mkdir()
    (folder / "www" / "send").write_bytes(DOCUMENT)
    port = _free_port()
    command = [_find("nghttpd") or "", "-d", str(folder / "www"), "-a", "127.0.0.1"]
    with _run([*command, *options, str(port), str(leaf), str(leaf)], port, ca) as server:
        yield server


_NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error_log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  ssl_certificate {leaf}; ssl_certificate_key {leaf};
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{port} ssl http2;
    set $e "{kilobyte}";
    {options}
    location /send {{ add_header apns-id $request_id; add_header path $uri; return 200 '{{}}'; }}
    location / {{ return 404 "{body}"; }}
  }}
}}
"""
NGINX_ERROR = b"e" * 60_000


@contextlib.contextmanager
def nginx(folder: Path, options: str = "") -> Iterator[Server]:
    """Answer /send… with the path and an id of its own in the headers, all else with ``NGINX_ERROR``."""
    ca, leaf = make_certificates(folder)
    port = _free_port()
    text = _NGINX.format(
        folder=folder,
        leaf=leaf,
        port=port,
        options=options,
        kilobyte="e" * 1000,
        body="$e" * (len(NGINX_ERROR) // 1000),
    )
    (folder / "nginx.conf").write_text(text)
    with _run([_find("nginx") or "", "-p", str(folder), "-c", str(folder / "nginx.conf")], port, ca) as server:
        yield server


_H2O = """
listen: {{host: 127.0.0.1, port: {port}, ssl: {{certificate-file: {leaf}, key-file: {leaf}, ocsp-update-interval: 0}}}}
num-threads: 1
{options}
hosts:
  default:
    paths:
      /send:
        mruby.handler: |
          Proc.new {{|env| [200, {{"path" => env["SCRIPT_NAME"] + env["PATH_INFO"]}}, ["{{}}"]]}}
      /:
        mruby.handler: |
          Proc.new {{|env| [404, {{}}, ["e" * {error}]]}}
"""
H2O_ERROR = b"e" * 50_000


@contextlib.contextmanager
def h2o(folder: Path, options: str = "") -> Iterator[Server]:
    """Answer /send… with the path in the headers, all else with ``H2O_ERROR``."""
    ca, leaf = make_certificates(folder)
    port = _free_port()
    text = _H2O.format(leaf=leaf, port=port, options=options, error=len(H2O_ERROR))
    (folder / "h2o.conf").write_text(text)
    with _run([_find("h2o") or "", "-c", str(folder / "h2o.conf")], port, ca) as server:
        yield server


@contextlib.contextmanager
def node(folder: Path) -> Iterator[Server]:
    """Behave as ``node_peer.js`` says."""
    ca, leaf = make_certificates(folder)
    script = Path(__file__).with_name("node_peer.js")
    with subprocess.Popen(["node", str(script), str(leaf)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Server(f"https://127.0.0.1:{int(process.stdout.readline())}", ca, process)
        finally:
            process.kill()
