"""nginx as a stand-in for FCM and APNs: finding it and its lua module, and its configuration.

Belongs here: what nginx is told. Does not belong here: starting it (``servers``).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

# Debian keeps it where only root's path looks.
_PATH = os.pathsep.join(("/usr/sbin", "/usr/local/sbin", "/usr/local/openresty/nginx/sbin"))
_MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")

KEY_AND_CERTIFICATE = ("server-key.pem", "server.pem")

_MAIN = """\
%(load)s
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  http2_max_concurrent_streams 1000;
  keepalive_requests 1000000000;
  keepalive_timeout 300s;
  ssl_certificate %(keys)s/server.pem;
  ssl_certificate_key %(keys)s/server-key.pem;
  map $request_id $made_id { "~^(.{8})(.{4})(.{4})(.{4})(.{12})$" "$1-$2-$3-$4-$5"; }
  map $http_apns_id $apns_id { "" $made_id; default $http_apns_id; }
  %(servers)s
}
"""
# FCM's answer has some more headers than are of use. APNs ends the stream with the headers of a 200, and makes an
# apns-id where the request has none.
_SERVER = """
  server {
    listen 127.0.0.1:%(port)d ssl http2;
    location ~ ^/v1/projects/[a-z-]+/messages:send$ {
      add_header vary "Origin,Accept-Encoding";
      add_header cache-control private;
      add_header x-xss-protection 0;
      add_header x-frame-options SAMEORIGIN;
      add_header x-content-type-options nosniff;
      content_by_lua_block {
        %(wait)s
        local id = ngx.var.request_id
        local body = '{\\n  "name": "projects/bench/messages/0:' .. id:sub(1, 16) .. '%%' .. id:sub(17) .. '"\\n}\\n'
        ngx.header["content-type"] = "application/json; charset=UTF-8"
        ngx.header["content-length"] = #body
        ngx.print(body)
      }
    }
    location /3/device/ {
      content_by_lua_block {
        %(wait)s
        ngx.header["apns-id"] = ngx.var.apns_id
        ngx.header["content-length"] = 0
        ngx.exit(200)
      }
    }
  }
"""


def _find() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path=_PATH)


def _lua_modules() -> list[Path] | None:
    """Return the modules to load for lua: none where it is built in, and None where nginx or lua is missing."""
    nginx = _find()
    if nginx is None:
        return None
    built = subprocess.run([nginx, "-V"], check=True, capture_output=True, text=True).stderr
    if re.search(r"--add-module=\S*(lua-nginx-module|ngx_lua-)", built):
        return []
    folder, prefix = re.search(r"--modules-path=(\S+)", built), re.search(r"--prefix=(\S+)", built)
    parent = Path(folder.group(1)) if folder else Path(prefix.group(1) if prefix else "/usr/local/nginx") / "modules"
    modules = [parent / name for name in _MODULES]
    return modules if all(module.exists() for module in modules) else None


def command(config: Path) -> list[str]:
    """Return how it is started with a configuration, in the foreground."""
    return [_find() or "nginx", "-p", str(config.parent), "-e", "stderr", "-c", str(config)]


def takes(config: Path) -> bool:
    """Tell whether it understands a configuration: an old one, or one without HTTP/2, does not."""
    return subprocess.run([*command(config), "-t"], capture_output=True).returncode == 0


def configure(folder: Path, keys: str, ports: Mapping[int, tuple[int, int]]) -> Path | None:
    """Write a configuration; None where nginx or lua is missing.

    Args:
        folder: Where it is written.
        keys: The folder below it that has ``KEY_AND_CERTIFICATE``.
        ports: For each the least latency and what is added to it at most, in milliseconds.
    """
    modules = _lua_modules()
    if modules is None:
        return None
    servers = ""
    for port, (least, more) in ports.items():
        # An answer before the request's body is followed by a reset, which no provider sends, and which aioapns logs.
        # The body is there after any sleep; reading it then would only cost more.
        slept = f"ngx.sleep({least / 1000} + math.random() * {more / 1000})"
        servers += _SERVER % {"port": port, "wait": slept if least else "ngx.req.read_body()"}
    load = "\n".join(f"load_module {module};" for module in modules)
    path = folder / "nginx.conf"
    path.write_text(_MAIN % {"load": load, "servers": servers, "keys": keys})
    return path
