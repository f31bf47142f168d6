"""Onboarding."""

import pytest

from tests.ingest_api.conftest import ADMIN, House, fields_of, send


def test_a_product_and_its_organizations_get_working_keys(any_house: House) -> None:
    admin = any_house.api(ADMIN)
    answered = admin.call("POST", "/products", {"name": "P", "organizations": ["O1", "O2"]})
    assert answered.status_code == 201
    assert answered.headers["Cache-Control"] == "no-store"
    made = answered.json
    assert made is not None
    assert [part["name"] for part in made["organizations"]] == ["O1", "O2"]
    keys = [part[kind] for part in (made, *made["organizations"]) for kind in ("secret_key", "publishable_key")]
    ids = [made["product_id"], *(part["organization_id"] for part in made["organizations"])]
    assert len({*keys, *ids}) == 9
    for part in (made, *made["organizations"]):
        any_house.api(part["secret_key"]).ok("POST", "/notifications", send())
        assert any_house.api(part["publishable_key"]).call("GET", "/notifications").status_code == 403


@pytest.mark.parametrize("organizations", [[], ["O"]])
def test_a_name_is_taken_once(any_house: House, organizations: list[str]) -> None:
    admin = any_house.api(ADMIN)
    admin.ok("POST", "/products", {"name": "P", "organizations": organizations})
    answered = admin.call("POST", "/products", {"name": "P", "organizations": ["other"]})
    assert (answered.status_code, fields_of(answered)) == (409, {"name"})
    admin.ok("POST", "/products", {"name": "Q", "organizations": organizations})
