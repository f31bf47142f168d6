"""The stack of backing services is what its documentation says it is. No engine runs here: it is only read."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    stack: dict[str, Any] = yaml.safe_load((ROOT / "backing-services-stack.yml").read_text())["services"]
    return stack


def test_only_this_machine_reaches_services_whose_passwords_everybody_knows(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service["ports"]]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_have_a_health_check_to_wait_for(services: dict[str, Any]) -> None:
    for service in services.values():
        assert re.fullmatch(r"[a-z/]+:\d[\d.]*", service["image"])
        assert service["healthcheck"]["test"]


def test_the_guide_names_the_same_addresses_and_credentials(services: dict[str, Any]) -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    told = dict(re.findall(r"(?:export |\s)([A-Z0-9_]+)=(\S+)", guide))
    postgres, s3 = services["postgres"], services["s3"]
    db = postgres["environment"]
    user = f"{db['POSTGRES_USER']}:{db['POSTGRES_PASSWORD']}@127.0.0.1:{postgres['ports'][0].split(':')[1]}"
    assert told["NOTIFY_LEDGER_URL"] == f"postgresql://{user}/{db['POSTGRES_DB']}"
    assert told["NOTIFY_DAGSTER_STORAGE_URL"] == f"postgresql+psycopg2://{user}/dagster"
    assert told["NOTIFY_S3_ENDPOINT_URL"] == f"http://127.0.0.1:{s3['ports'][0].split(':')[1]}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert told[name] == s3["environment"][name]
