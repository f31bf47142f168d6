"""FCM HTTP v1's rules: who may send, what a message must be, and what is answered.

Belongs here: the checks of ``POST /v1/projects/{project}/messages:send``. Does not belong here: the JSON shape
(``fcm_schema``), bodies of answers (``fcm_answers``), faults and logging (``standin``).

Source: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send
"""

import itertools
import os
import re
from datetime import datetime
from typing import Any

import orjson

from notify_pipeline.sandbox import fcm_answers as answers
from notify_pipeline.sandbox.faults import Fault
from notify_pipeline.sandbox.fcm_answers import Rejection
from notify_pipeline.sandbox.fcm_schema import check, snake
from notify_pipeline.sandbox.oauth import AccessTokens
from notify_pipeline.sandbox.standin import Push, Reply
from notify_pipeline.sandbox.tokens import FCM_FID, FCM_TOKEN
from notify_pipeline.sandbox.wire import Request

# "4096 bytes for most messages, or 2048 bytes in the case of messages to topics. This includes both the keys and the
# values." https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
MAX_PAYLOAD = 4096
MAX_TOPIC_PAYLOAD = 2048
MAX_TTL_S = 2_419_200
_PATH = re.compile(rb"/v1/projects/([^/]+)/messages:send(?:\?.*)?")
_TOPIC = re.compile(r"[a-zA-Z0-9-_.~%]{1,900}")
_LABEL = re.compile(r"[a-zA-Z0-9-_.~%]{1,50}")
_TARGETS = ("token", "fid", "topic", "condition")
_RESERVED = frozenset({"from", "message_type"})
_RESERVED_PREFIXES = ("google.", "gcm.notification.")


class Fcm:
    """The rules of one Firebase project (``Provider``)."""

    channel = "fcm"
    first_streams = 1000
    full_streams = 1000
    logged_headers: tuple[bytes, ...] = ()

    def __init__(self, project: str, tokens: AccessTokens) -> None:
        self._project = project
        self._tokens = tokens
        self._run = int.from_bytes(os.urandom(5), "big")
        self._message_ids = itertools.count()

    def check(self, request: Request, push: Push, now: datetime) -> Reply | None:
        """Check a request in the order in which Google's layers do: path, credentials, JSON, message."""
        try:
            self._check(request, push, now)
        except Rejection as rejection:
            return rejection.reply
        return None

    def accepted(self, request: Request, push: Push) -> Reply:
        """Return the message's name."""
        # A dry run's name is always this one.
        ident = "fake_message_id" if push.dry_run else f"0:{self._run:x}%{next(self._message_ids):016x}"
        name = f"projects/{self._project}/messages/{ident}"
        return answers.reply(200, orjson.dumps({"name": name}), message_id=name)

    def unregistered(self, request: Request, since: datetime) -> Reply:
        """Return the 404."""
        return answers.UNREGISTERED

    def failed(self, request: Request, fault: Fault, retry_after_s: int | None) -> Reply:
        """Return the 429, 500 or 503."""
        return answers.failed(fault, retry_after_s)

    def _check(self, request: Request, push: Push, now: datetime) -> None:
        path = _PATH.fullmatch(request.headers.get(b":path", b""))
        if path is None or request.headers.get(b":method") != b"POST":
            raise Rejection(answers.NOT_FOUND)
        self._check_credentials(request.headers.get(b"authorization"), now)
        push.trusted = True
        if path[1] != self._project.encode():
            raise Rejection(answers.permission_denied(path[1].decode("latin-1")))
        if request.too_large:
            raise Rejection(answers.too_big("Android"))
        try:
            push.body = orjson.loads(request.body)
        except orjson.JSONDecodeError as problem:
            raise Rejection(answers.malformed([("", f"Invalid JSON payload received. {problem}")])) from None
        violations = check(push.body)
        if violations:
            raise Rejection(answers.malformed(violations))
        message: dict[str, Any] = push.body.get("message") or {}
        push.dry_run = snake(push.body, "validate_only") in (True, "true")
        _learn(message, push)
        _check_target(message)
        _check_data(message)
        _check_android(message)
        _check_size(message, request.body)

    def _check_credentials(self, header: bytes | None, now: datetime) -> None:
        if header is None:
            raise Rejection(answers.NO_CREDENTIALS)
        scheme, _, token = header.partition(b" ")
        if scheme.lower() != b"bearer" or not self._tokens.is_good(token.decode("latin-1"), now):
            raise Rejection(answers.BAD_CREDENTIALS)


def _learn(message: dict[str, Any], push: Push) -> None:
    android = message.get("android") or {}
    push.data = {**(message.get("data") or {}), **(android.get("data") or {})}
    push.collapse_id = snake(android, "collapse_key")
    for target in _TARGETS:
        if message.get(target):
            push.recipient = message[target] if target in ("token", "fid") else f"{target}:{message[target]}"


def _check_target(message: dict[str, Any]) -> None:
    targets = [target for target in _TARGETS if message.get(target) is not None]
    if not targets or not message[targets[0]]:
        raise Rejection(answers.invalid("message", "Recipient of the message is not set."))
    if len(targets) > 1:
        text = f"Invalid value at 'message' (oneof), oneof field 'target' is already set. Cannot set '{targets[1]}'"
        raise Rejection(answers.malformed([("message", text)]))
    target, value = targets[0], message[targets[0]]
    if target == "token" and not FCM_TOKEN.fullmatch(value):
        raise Rejection(answers.NO_TOKEN)
    if target == "fid" and not FCM_FID.fullmatch(value):
        raise Rejection(answers.invalid("message.fid", "The installation id is not a valid Firebase installation id"))
    if target == "topic" and not _TOPIC.fullmatch(value):
        raise Rejection(answers.invalid("message.topic", "Invalid topic name"))


def _check_data(message: dict[str, Any]) -> None:
    for config, where in ((message, "message"), (message.get("android") or {}, "message.android")):
        for key in config.get("data") or ():
            if key in _RESERVED or key.startswith(_RESERVED_PREFIXES):
                raise Rejection(answers.invalid(f"{where}.data", f"Invalid data payload key: {key}"))


def _check_android(message: dict[str, Any]) -> None:
    android = message.get("android") or {}
    ttl = android.get("ttl")
    if ttl is not None and not 0 <= float(ttl[:-1]) <= MAX_TTL_S:
        raise Rejection(answers.invalid("message.android.ttl", f"Invalid ttl: must be within [0, {MAX_TTL_S}] seconds"))
    for path, config in (("message", message), ("message.android", android)):
        label = snake(snake(config, "fcm_options") or {}, "analytics_label")
        if label is not None and not _LABEL.fullmatch(label):
            raise Rejection(answers.invalid(f"{path}.fcm_options.analytics_label", "Invalid analytics label"))


def _check_size(message: dict[str, Any], raw: bytes) -> None:
    topical = not (message.get("token") or message.get("fid"))
    limit = MAX_TOPIC_PAYLOAD if topical else MAX_PAYLOAD
    if len(raw) <= limit:
        return
    android, webpush = message.get("android") or {}, message.get("webpush") or {}
    data = message.get("data") or {}
    shared = message.get("notification") or {}
    for kind, config in (("Android", android), ("WebPush", webpush)):
        shown = {**shared, **(config.get("notification") or {})}
        size = _texts(config.get("data") or data) + (len(orjson.dumps(shown)) if shown else 0)
        if size > limit:
            raise Rejection(answers.too_big(kind))
    payload = (message.get("apns") or {}).get("payload")
    if payload and len(orjson.dumps(payload)) > limit:
        raise Rejection(answers.too_big("APNs"))


def _texts(data: dict[str, str]) -> int:
    return sum(len(key.encode()) + len(value.encode()) for key, value in data.items())
