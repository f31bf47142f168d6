"""The larger installation: ledger on PostgreSQL, lake and logs on S3. Nothing in the code changes."""

from collections import Counter
from pathlib import Path

import pytest

from notify_pipeline.commands.demo import traffic, truth
from notify_pipeline.commands.demo.system import RunningSystem
from notify_pipeline.commands.demo.traffic import Api
from tests.waiting import wait_for

DEVICES = traffic.devices(1_200)


@pytest.mark.long
def test_a_broadcast_on_postgresql_and_s3(tmp_path: Path, postgres_url: str, s3_root: str, s3_server: str) -> None:
    settings = {
        "NOTIFY_LEDGER_URL": postgres_url,
        "NOTIFY_LAKE_ROOT": f"{s3_root}/lake",
        "NOTIFY_LOGS_ROOT": f"{s3_root}/logs",
        "NOTIFY_S3_ENDPOINT_URL": s3_server,
        "NOTIFY_INLINE_LIMIT": "500",
    }
    with RunningSystem(tmp_path / "home", **settings) as system:
        system.wait_until_ready()
        sandbox = Api(system.addresses["sandbox"])
        product = system.api(system.addresses["admin_key"]).expect(201, "POST", "/products", {"name": "Larger"})
        api = system.api(product["secret_key"])
        traffic.register_all(api, DEVICES, lambda: None)
        accepted = api.expect(202, "POST", "/notifications", traffic.broadcast_body("larger-1"))
        wait_for(lambda: api.expect(200, "GET", accepted["status_url"])["state"] == "done", what="the broadcast")
        wait_for(lambda: sandbox.expect(200, "GET", "/stats")["devices"]["pending"] == 0, what="the devices")
        sandbox.expect(200, "POST", "/cdn/flush")

        def received() -> int:
            answer = api.call("GET", "/reports/larger-1")
            return 0 if answer.status == 404 else int(answer.body["totals"]["received"])

        wait_for(lambda: received() == len(DEVICES), what="every receipt in the report")
        seen = truth.provider_truth(sandbox.lines("/log?since=0"))
        audience = Counter(device.platform for device in DEVICES)
        pushed = {platform: len(seen["larger-1", platform].processed) for platform in audience}
        assert pushed == audience
        assert not (system.home / "lake").exists()
        assert not (system.home / "ledger").exists()
