"""Registering devices and their topics.

Belongs here: the device routes. Does not belong here: storing (``core.ledger.devices``).
"""

from flask import Response

from ingest_api.devices.models import DeviceShown, NewRegistration, NewTopics
from ingest_api.devices.subscribed import subscribed
from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, FieldError, not_found, unprocessable
from ingest_api.fields import Token, stored_topics, token_fault
from ingest_api.keys import Access
from notify_pipeline.core.ledger import devices
from notify_pipeline.core.vocabulary import Platform

GROUP = Group("devices", "Device tokens, their users and topics.")
_NO_DEVICE = {404: "No such device is registered with this tenant."}


@GROUP.endpoint(
    "POST", "/devices", access=Access.DEVICE, answers={201: Answer("The stored registration.", DeviceShown)}
)
def register_device(call: Call, body: NewRegistration) -> Response:
    """Register a device, or register it again.

    An app should call this at every start: a token counts as dead from a provider's word only if it was not registered
    again since. A page registers what its browser subscribed to, with `platform` `webpush`, and uses the token in the
    answer from then on.
    """
    registration = devices.Registration(
        token=_token(call, body),
        platform=body.platform,
        user_id=body.user_id,
        topics=stored_topics(body.topics),
        app_version=body.app_version,
        locale=body.locale,
        timezone=body.timezone,
    )
    stored = devices.register(call.services.ledger, call.tenant, registration, call.services.clock())
    return answer(201, _shown(stored))


@GROUP.endpoint(
    "GET",
    "/devices/{token}",
    access=Access.DEVICE,
    answers={200: Answer("The stored registration.", DeviceShown)},
    errors=_NO_DEVICE,
)
def show_device(call: Call, token: Token) -> Response:
    """Show a device's registration, and whether its token is good.

    FCM is asked with a message that it only validates; `is_valid` is null where it cannot be asked or does not say, and
    for `ios` and `webpush`, whose providers have no such question. What FCM said is remembered for up to ten minutes.
    """
    found = devices.get(call.services.ledger, call.tenant, token)
    if found is None:
        raise _no_device()
    state = call.services.token_desk.check(found.platform, found.token)
    return answer(200, _shown(found) | {"is_valid": state.is_valid})


@GROUP.endpoint(
    "PUT",
    "/devices/{token}/topics",
    access=Access.DEVICE,
    answers={200: Answer("The stored registration.", DeviceShown)},
    errors=_NO_DEVICE,
)
def replace_topics(call: Call, token: Token, body: NewTopics) -> Response:
    """Replace a device's topics."""
    now = call.services.clock()
    changed = devices.set_topics(call.services.ledger, call.tenant, token, stored_topics(body.topics), now)
    if changed is None:
        raise _no_device()
    return answer(200, _shown(changed))


@GROUP.endpoint(
    "DELETE", "/devices/{token}", access=Access.DEVICE, answers={204: Answer("Unregistered.")}, errors=_NO_DEVICE
)
def delete_device(call: Call, token: Token) -> Response:
    """Unregister a device."""
    if not devices.delete(call.services.ledger, call.tenant, token, call.services.clock()):
        raise _no_device()
    return empty()


def _token(call: Call, body: NewRegistration) -> str:
    """Return the token that a registration is known by. Raises ApiError: it has none, or two."""
    if body.platform is not Platform.WEBPUSH:
        if body.subscription is not None:
            raise unprocessable(FieldError("subscription", "is for platform webpush"))
        if body.token is None:
            raise unprocessable(FieldError("token", "is required"))
        if (fault := token_fault(body.token, body.platform)) is not None:
            raise unprocessable(FieldError("token", fault))
        return body.token
    if body.token is not None:
        raise unprocessable(FieldError("token", "must not be given for platform webpush: it is made of subscription"))
    if body.subscription is None:
        raise unprocessable(FieldError("subscription", "is required for platform webpush"))
    return subscribed(body.subscription, call.services.settings)


def _no_device() -> ApiError:
    return not_found("No such device is registered.")


def _shown(device: devices.Device) -> dict[str, object]:
    # A plain dict: registering is a hot route, and a test holds that it fits the model.
    return {
        "token": device.token,
        "platform": device.platform,
        "user_id": device.user_id,
        "topics": device.topics,
        "app_version": device.app_version,
        "locale": device.locale,
        "timezone": device.timezone,
        "created_at": device.created_at,
        "registered_at": device.registered_at,
        "is_valid": None,
    }
