"""Keys of products and organizations: making, rotating, listing, revoking.

Belongs here: the key routes. Does not belong here: who may (``rights``), storing (``core.ledger.keys``), checking them
(``ingest_api.keys``).
"""

from datetime import timedelta

from flask import Response

from ingest_api.endpoint import NO_STORE, Answer, Call, Group, answer, empty
from ingest_api.errors import FieldError, not_found, unprocessable
from ingest_api.fields import KeyId, PageQuery, TenantId, fields_of
from ingest_api.keys import Access
from ingest_api.paging import cut, unpack_text
from ingest_api.tenants import rights
from ingest_api.tenants.models import DEFAULT_OVERLAP_S, KeyMade, KeyPage, KeyShown, NewKey
from notify_pipeline.core.ledger import keys
from notify_pipeline.core.vocabulary import KeyScope

GROUP = Group("keys", "Keys of products and organizations. An organization's secret key manages the organization's.")
_PRODUCT_KEYS = "/products/{product_id}/keys"
_ORGANIZATION_KEYS = "/organizations/{organization_id}/keys"
_MADE = {201: Answer("Made. The key is shown once and cannot be read again.", KeyMade)}
_PAGE = {200: Answer("A page, oldest first.", KeyPage)}
_REVOKED = {204: Answer("Revoked.")}
_NO_PRODUCT_KEY = {404: "There is no such product or key, or it is not the key's own."}
_NO_ORGANIZATION_KEY = {404: "There is no such organization or key, or the key does not see it."}


@GROUP.endpoint("POST", _PRODUCT_KEYS, access=Access.OPERATOR, answers=_MADE, errors=rights.NO_PRODUCT)
def create_product_key(call: Call, product_id: TenantId, body: NewKey) -> Response:
    """Make or rotate a key of a product.

    With `scope`, another key. With `rotate`, a key in the place of another one, which is refused when the overlap ends;
    an overlap of 0 refuses it before this is answered.
    """
    return _create(call, rights.product(call, product_id).tenant, body)


@GROUP.endpoint("POST", _ORGANIZATION_KEYS, access=Access.OPERATOR, answers=_MADE, errors=rights.NO_ORGANIZATION)
def create_organization_key(call: Call, organization_id: TenantId, body: NewKey) -> Response:
    """Make or rotate a key of an organization.

    As with a product's.
    """
    return _create(call, rights.organization(call, organization_id).tenant, body)


@GROUP.endpoint("GET", _PRODUCT_KEYS, access=Access.OPERATOR, answers=_PAGE, errors=rights.NO_PRODUCT)
def list_product_keys(call: Call, product_id: TenantId, query: PageQuery) -> Response:
    """List a product's keys, also those that are refused. The keys themselves cannot be read again."""
    return _page(call, rights.product(call, product_id).tenant, query)


@GROUP.endpoint("GET", _ORGANIZATION_KEYS, access=Access.OPERATOR, answers=_PAGE, errors=rights.NO_ORGANIZATION)
def list_organization_keys(call: Call, organization_id: TenantId, query: PageQuery) -> Response:
    """List an organization's keys, also those that are refused. The keys themselves cannot be read again."""
    return _page(call, rights.organization(call, organization_id).tenant, query)


@GROUP.endpoint("DELETE", _PRODUCT_KEYS + "/{key_id}", access=Access.OPERATOR, answers=_REVOKED, errors=_NO_PRODUCT_KEY)
def revoke_product_key(call: Call, product_id: TenantId, key_id: KeyId) -> Response:
    """Revoke a product's key.

    For good, and before this is answered: no process of the ingress takes it any more. Revoking it again is harmless.
    Also the last secret key may be revoked, and the one that asks; then an admin makes another.
    """
    return _revoke(call, rights.product(call, product_id).tenant, key_id)


@GROUP.endpoint(
    "DELETE", _ORGANIZATION_KEYS + "/{key_id}", access=Access.OPERATOR, answers=_REVOKED, errors=_NO_ORGANIZATION_KEY
)
def revoke_organization_key(call: Call, organization_id: TenantId, key_id: KeyId) -> Response:
    """Revoke an organization's key.

    As with a product's; its product, too, can make another.
    """
    return _revoke(call, rights.organization(call, organization_id).tenant, key_id)


def _create(call: Call, tenant: str, body: NewKey) -> Response:
    faults = list(body.faults())
    if faults:
        raise unprocessable(*faults)
    made = _new(call, tenant, body) if body.rotate is None else _rotated(call, tenant, body, body.rotate)
    shown = KeyMade(
        key_id=made.key_id,
        key=made.plaintext,
        scope=made.scope,
        label=made.label,
        created_at=made.created_at,
        rotated=None if made.replaces is None else KeyShown(**fields_of(KeyShown, made.replaces)),
    )
    return answer(201, shown, NO_STORE)


def _new(call: Call, tenant: str, body: NewKey) -> keys.NewKey:
    scope = KeyScope.PUBLISHABLE if body.scope == "publishable" else KeyScope.SECRET
    return keys.create(call.services.ledger, tenant, scope, body.label, call.actor, call.services.clock())


def _rotated(call: Call, tenant: str, body: NewKey, old: str) -> keys.NewKey:
    services = call.services
    overlap = timedelta(seconds=DEFAULT_OVERLAP_S if body.overlap_s is None else body.overlap_s)
    try:
        made = keys.rotate(services.ledger, tenant, old, overlap, body.label, call.actor, services.clock())
    except keys.NoSuchKey as error:
        raise unprocessable(FieldError("rotate", "is no key of this tenant that is still good")) from error
    # Whoever remembers the old key does not know that it ends.
    services.keys.forget_everywhere()
    return made


def _page(call: Call, tenant: str, query: PageQuery) -> Response:
    rows = keys.list_page(call.services.ledger, tenant, query.limit + 1, unpack_text(query.cursor))
    page, cursor = cut(rows, query.limit, lambda row: (row.key_id,))
    return answer(200, {"items": [fields_of(KeyShown, row) for row in page], "next_cursor": cursor})


def _revoke(call: Call, tenant: str, key_id: str) -> Response:
    services = call.services
    if not keys.revoke(services.ledger, tenant, key_id, call.actor, services.clock()):
        raise not_found("There is no such key.")
    services.keys.forget_everywhere()
    return empty()
