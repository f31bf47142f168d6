"""The JSON shape of FCM v1's SendMessageRequest, checked the way Google's JSON layer checks it.

Belongs here: field names, types, and the violations they give. Does not belong here: what values mean (``fcm``).

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and the service's discovery document.
Names are taken in snake_case and camelCase, and null means unset (the protobuf JSON mapping).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Violations = list[tuple[str, str]]
Check = Callable[[Any, str, Violations], None]

_DURATION = re.compile(r"-?\d{1,12}(?:\.\d{1,9})?s")
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)")
_CAMEL = re.compile(r"_([a-z])")
_INT32 = 2**31


def check(request: Any) -> Violations:
    """Return every violation of a parsed request body, as (field, description); empty when it is well shaped."""
    violations: Violations = []
    _REQUEST(request, "", violations)
    return violations


def snake(message: Mapping[str, Any], name: str) -> Any:
    """Return a field of a well-shaped message by its snake_case name, whichever way it was written."""
    value = message.get(name)
    return message.get(_camel(name)) if value is None else value


def _camel(name: str) -> str:
    return _CAMEL.sub(lambda match: match[1].upper(), name)


def _wrong(path: str, kind: str, value: Any, violations: Violations) -> None:
    shown = f'"{value}"' if isinstance(value, str) else value
    violations.append((path, f"Invalid value at '{path}' ({kind}), {shown}"))


def _string(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, str):
        _wrong(path, "TYPE_STRING", value, violations)


def _bool(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, bool) and value not in ("true", "false"):
        _wrong(path, "TYPE_BOOL", value, violations)


def _int32(value: Any, path: str, violations: Violations) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not -_INT32 <= value < _INT32:
        _wrong(path, "TYPE_INT32", value, violations)


def _float(value: Any, path: str, violations: Violations) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _wrong(path, "TYPE_FLOAT", value, violations)


def _duration(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        _wrong(path, "type.googleapis.com/google.protobuf.Duration", value, violations)


def _timestamp(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        _wrong(path, "type.googleapis.com/google.protobuf.Timestamp", value, violations)


def _struct(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, dict):
        _wrong(path, "type.googleapis.com/google.protobuf.Struct", value, violations)


def _shown(value: Any, path: str, violations: Violations) -> None:
    """Check what a browser is to show: to Google it is any object, but ``showNotification`` throws at such actions.

    Source: https://notifications.spec.whatwg.org/#dictdef-notificationaction
    """
    _struct(value, path, violations)
    if isinstance(value, dict) and value.get("actions") is not None:
        _list(_action)(value["actions"], f"{path}.actions", violations)


def _action(value: Any, path: str, violations: Violations) -> None:
    _struct(value, path, violations)
    if isinstance(value, dict):
        for name in ("action", "title"):
            _string(value.get(name), f"{path}.{name}", violations)
        if "icon" in value:
            _string(value["icon"], f"{path}.icon", violations)


def _string_map(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, dict):
        _wrong(path, "Map", value, violations)
        return
    for index, item in enumerate(value.values()):
        if not isinstance(item, str):
            _string(item, f"{path}[{index}].value", violations)


def _enum(name: str, *values: str) -> Check:
    allowed = frozenset(values)

    def enum(value: Any, path: str, violations: Violations) -> None:
        # Google takes the names in any case: firebase-admin sends "high".
        if not isinstance(value, str) or value.upper() not in allowed:
            _wrong(path, f"type.googleapis.com/google.firebase.fcm.v1.{name}", value, violations)

    return enum


def _list(item: Check) -> Check:
    def repeated(value: Any, path: str, violations: Violations) -> None:
        if not isinstance(value, list):
            _wrong(path, "List", value, violations)
            return
        for index, one in enumerate(value):
            item(one, f"{path}[{index}]", violations)

    return repeated


def _message(name: str, /, **fields: Check) -> Check:
    known = {**fields, **{_camel(key): item for key, item in fields.items()}}

    def message(value: Any, path: str, violations: Violations) -> None:
        if not isinstance(value, dict):
            _wrong(path, f"type.googleapis.com/google.firebase.fcm.v1.{name}", value, violations)
            return
        for key, one in value.items():
            item = known.get(key)
            if item is None:
                where = f" at '{path}'" if path else ""
                text = f'Invalid JSON payload received. Unknown name "{key}"{where}: Cannot find field.'
                violations.append((path, text))
            elif one is not None:
                item(one, f"{path}.{key}" if path else key, violations)

    return message


_LABEL = {"analytics_label": _string}
_ANDROID_NOTIFICATION = _message(
    "AndroidNotification",
    **dict.fromkeys(
        ("title", "body", "icon", "color", "sound", "tag", "click_action", "body_loc_key", "title_loc_key"), _string
    ),
    **dict.fromkeys(("channel_id", "ticker", "image", "id"), _string),
    **dict.fromkeys(("sticky", "local_only", "default_sound", "default_vibrate_timings"), _bool),
    **dict.fromkeys(("default_light_settings", "bypass_proxy_notification"), _bool),
    body_loc_args=_list(_string),
    title_loc_args=_list(_string),
    event_time=_timestamp,
    notification_priority=_enum(
        "AndroidNotification.NotificationPriority",
        *(f"PRIORITY_{level}" for level in ("UNSPECIFIED", "MIN", "LOW", "DEFAULT", "HIGH", "MAX")),
    ),
    vibrate_timings=_list(_duration),
    visibility=_enum("AndroidNotification.Visibility", "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"),
    notification_count=_int32,
    proxy=_enum("AndroidNotification.Proxy", "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"),
    light_settings=_message(
        "LightSettings",
        color=_message("Color", red=_float, green=_float, blue=_float, alpha=_float),
        light_on_duration=_duration,
        light_off_duration=_duration,
    ),
)
_MESSAGE = _message(
    "Message",
    name=_string,
    token=_string,
    fid=_string,
    topic=_string,
    condition=_string,
    data=_string_map,
    notification=_message("Notification", title=_string, body=_string, image=_string),
    android=_message(
        "AndroidConfig",
        collapse_key=_string,
        priority=_enum("AndroidMessagePriority", "NORMAL", "HIGH"),
        ttl=_duration,
        restricted_package_name=_string,
        data=_string_map,
        notification=_ANDROID_NOTIFICATION,
        fcm_options=_message("AndroidFcmOptions", **_LABEL),
        direct_boot_ok=_bool,
        bandwidth_constrained_ok=_bool,
        restricted_satellite_ok=_bool,
    ),
    webpush=_message(
        "WebpushConfig",
        headers=_string_map,
        data=_string_map,
        notification=_shown,
        fcm_options=_message("WebpushFcmOptions", link=_string, **_LABEL),
    ),
    apns=_message(
        "ApnsConfig",
        headers=_string_map,
        payload=_struct,
        fcm_options=_message("ApnsFcmOptions", image=_string, **_LABEL),
        live_activity_token=_string,
    ),
    fcm_options=_message("FcmOptions", **_LABEL),
)
_REQUEST = _message("SendMessageRequest", message=_MESSAGE, validate_only=_bool)
