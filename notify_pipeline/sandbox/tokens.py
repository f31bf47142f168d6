"""Device tokens as the stand-ins take them: what they must look like, and making realistic ones.

Belongs here: the shape of FCM and APNs device tokens. Does not belong here: whether a token is registered (``faults``).
"""

import base64
import hashlib
import re

# Google documents no format and may change it; tokens seen so far are an app instance id (22 characters), a colon and
# base64url text of 140 or more. Checked loosely: the alphabet, and more than an instance id could be.
FCM_TOKEN = re.compile(r"[A-Za-z0-9_:-]{32,4096}")
# An app instance id as a target of its own (firebase-admin 7.7 calls it fid).
FCM_FID = re.compile(r"[cdef][A-Za-z0-9_-]{21}")
# 32 bytes today; Apple asks not to rely on the length.
# https://developer.apple.com/documentation/usernotifications/registering-your-app-with-apns
APNS_TOKEN = re.compile(r"(?:[0-9a-fA-F]{2}){32,100}")


def fcm_token(name: str) -> str:
    """Return a well-formed FCM registration token that belongs to this name: 163 characters."""
    text = base64.urlsafe_b64encode(hashlib.shake_256(b"fcm:" + name.encode()).digest(117)).decode()
    return f"c{text[:21]}:APA91b{text[22:156]}"


def apns_token(name: str) -> str:
    """Return a well-formed APNs device token that belongs to this name: 64 hex digits."""
    return hashlib.shake_256(b"apns:" + name.encode()).hexdigest(32)
