"""@parse/node-apn as a client of the benchmark: getting it, and running ``node_apn.cjs``."""

import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import orjson

from benchmarks.fanout_clients.meter import Measurement
from benchmarks.fanout_clients.workload import COLLAPSE_KEY, TTL_S, Job, apns_payload

_VERSION = "8.1.0"
# Git ignores it, and the next run finds it.
_FOLDER = Path(__file__).parents[2] / "build" / f"node-apn-{_VERSION}"
_SCRIPT = Path(__file__).with_name("node_apn.cjs")
_INSTALL_S = 120
_TIMEOUT_S = 120


def prepare() -> str | None:
    """Install the package where it is not; return why it cannot be measured, None if it can."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            return f"there is no {tool}"
    if (_FOLDER / "node_modules" / "@parse" / "node-apn").is_dir():
        return None
    _FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", "--prefix", str(_FOLDER), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    try:
        subprocess.run([*command, f"@parse/node-apn@{_VERSION}"], check=True, capture_output=True, timeout=_INSTALL_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(_FOLDER)
        return f"npm could not install it: {error}"
    return None


def run(job: Job) -> Measurement:
    """Send a job's requests.

    Raises:
        subprocess.SubprocessError: It failed or hung.
    """
    given = {
        **asdict(job),
        "payload": apns_payload("0" * 22),
        "collapse_key": COLLAPSE_KEY,
        "ttl_s": TTL_S,
    }
    env = {**os.environ, "NODE_PATH": str(_FOLDER / "node_modules")}
    command = ["node", str(_SCRIPT), orjson.dumps(given).decode()]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env, timeout=_TIMEOUT_S)
    return Measurement(**orjson.loads(done.stdout))
