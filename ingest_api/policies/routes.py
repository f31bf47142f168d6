"""What a tenant wants done differently: retries, quiet hours, frequency caps, what recipients get by default.

Belongs here: the policy routes. Does not belong here: limits, which only an admin sets (``limits``), storing
(``core.ledger.policies``), what a policy does to a send (``delivery``).
"""

from collections.abc import Callable, Mapping
from typing import Any

from flask import Response

from ingest_api.endpoint import Answer, Call, Group, answer, empty
from ingest_api.errors import ApiError, not_found
from ingest_api.fields import Strict
from ingest_api.keys import Access
from ingest_api.limits.models import shown
from ingest_api.policies.models import (
    Category,
    CategoryDefaults,
    FrequencyCap,
    FrequencyCapShown,
    PoliciesShown,
    PreferenceDefaults,
    PreferenceDefaultsShown,
    QuietHoursPolicy,
    QuietHoursShown,
    RetryPolicy,
    RetryShown,
    stored,
)
from notify_pipeline.core.ledger import policies
from notify_pipeline.core.ledger.policies import Policy
from notify_pipeline.core.vocabulary import Channel, PolicyKind

GROUP = Group("policies", "What a tenant wants done differently. An organization without a policy has its product's.")
_NO_POLICY = {404: "There is no such policy."}
_NO_OWN_POLICY = {404: "The tenant has no such policy of its own."}

_SET_RETRY = {200: Answer("The stored policy.", RetryShown)}
_SET_QUIET = {200: Answer("The stored policy.", QuietHoursShown)}
_SET_CAP = {200: Answer("The stored policy.", FrequencyCapShown)}
_SET_DEFAULTS = {200: Answer("The stored defaults.", PreferenceDefaultsShown)}
_GONE = {204: Answer("Removed.")}


@GROUP.endpoint("GET", "/policies", access=Access.SECRET, answers={200: Answer("All of them.", PoliciesShown)})
def show_policies(call: Call) -> Response:
    """Show all policies that apply."""
    with call.services.ledger.read() as conn:
        found = {kind: policies.find_in(conn, call.tenant, kind) for kind in PolicyKind}
    quiet, limits = found[PolicyKind.QUIET_HOURS].get(""), found[PolicyKind.LIMITS].get("")
    result = {
        "retry": [_retry(call, policy) for _, policy in sorted(found[PolicyKind.RETRY].items())],
        "quiet_hours": quiet and _quiet(call, quiet),
        "frequency_caps": [_cap(call, policy) for _, policy in sorted(found[PolicyKind.FREQUENCY_CAP].items())],
        "preferences": [_defaults(call, policy) for _, policy in sorted(found[PolicyKind.PREFERENCES].items())],
        "limits": limits and shown(call.tenant, limits),
    }
    return answer(200, result)


@GROUP.endpoint("PUT", "/policies/retry", access=Access.SECRET, answers=_SET_RETRY)
def set_retry_policy(call: Call, body: RetryPolicy) -> Response:
    """Set the retry policy of all channels that have none of their own."""
    return _set(call, PolicyKind.RETRY, "", body, _retry)


@GROUP.endpoint("GET", "/policies/retry", access=Access.SECRET, answers=_SET_RETRY, errors=_NO_POLICY)
def show_retry_policy(call: Call) -> Response:
    """Show the retry policy of all channels that have none of their own."""
    return _show(call, PolicyKind.RETRY, "", _retry)


@GROUP.endpoint("DELETE", "/policies/retry", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY)
def remove_retry_policy(call: Call) -> Response:
    """Remove the retry policy of all channels that have none of their own."""
    return _remove(call, PolicyKind.RETRY, "")


@GROUP.endpoint("PUT", "/policies/retry/{channel}", access=Access.SECRET, answers=_SET_RETRY)
def set_channel_retry_policy(call: Call, channel: Channel, body: RetryPolicy) -> Response:
    """Set a channel's retry policy."""
    return _set(call, PolicyKind.RETRY, channel, body, _retry)


@GROUP.endpoint("GET", "/policies/retry/{channel}", access=Access.SECRET, answers=_SET_RETRY, errors=_NO_POLICY)
def show_channel_retry_policy(call: Call, channel: Channel) -> Response:
    """Show a channel's retry policy."""
    return _show(call, PolicyKind.RETRY, channel, _retry)


@GROUP.endpoint("DELETE", "/policies/retry/{channel}", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY)
def remove_channel_retry_policy(call: Call, channel: Channel) -> Response:
    """Remove a channel's retry policy."""
    return _remove(call, PolicyKind.RETRY, channel)


@GROUP.endpoint("PUT", "/policies/quiet-hours", access=Access.SECRET, answers=_SET_QUIET)
def set_quiet_hours(call: Call, body: QuietHoursPolicy) -> Response:
    """Set the quiet hours of all recipients who have none of their own."""
    return _set(call, PolicyKind.QUIET_HOURS, "", body, _quiet)


@GROUP.endpoint("GET", "/policies/quiet-hours", access=Access.SECRET, answers=_SET_QUIET, errors=_NO_POLICY)
def show_quiet_hours(call: Call) -> Response:
    """Show the quiet hours."""
    return _show(call, PolicyKind.QUIET_HOURS, "", _quiet)


@GROUP.endpoint("DELETE", "/policies/quiet-hours", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY)
def remove_quiet_hours(call: Call) -> Response:
    """Remove the quiet hours."""
    return _remove(call, PolicyKind.QUIET_HOURS, "")


@GROUP.endpoint("PUT", "/policies/frequency-caps", access=Access.SECRET, answers=_SET_CAP)
def set_frequency_cap(call: Call, body: FrequencyCap) -> Response:
    """Set the cap on all sends together."""
    return _set(call, PolicyKind.FREQUENCY_CAP, "", body, _cap)


@GROUP.endpoint("GET", "/policies/frequency-caps", access=Access.SECRET, answers=_SET_CAP, errors=_NO_POLICY)
def show_frequency_cap(call: Call) -> Response:
    """Show the cap on all sends together."""
    return _show(call, PolicyKind.FREQUENCY_CAP, "", _cap)


@GROUP.endpoint("DELETE", "/policies/frequency-caps", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY)
def remove_frequency_cap(call: Call) -> Response:
    """Remove the cap on all sends together."""
    return _remove(call, PolicyKind.FREQUENCY_CAP, "")


@GROUP.endpoint("PUT", "/policies/frequency-caps/{category}", access=Access.SECRET, answers=_SET_CAP)
def set_category_cap(call: Call, category: Category, body: FrequencyCap) -> Response:
    """Set a category's cap."""
    return _set(call, PolicyKind.FREQUENCY_CAP, category, body, _cap)


@GROUP.endpoint("GET", "/policies/frequency-caps/{category}", access=Access.SECRET, answers=_SET_CAP, errors=_NO_POLICY)
def show_category_cap(call: Call, category: Category) -> Response:
    """Show a category's cap."""
    return _show(call, PolicyKind.FREQUENCY_CAP, category, _cap)


@GROUP.endpoint(
    "DELETE", "/policies/frequency-caps/{category}", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY
)
def remove_category_cap(call: Call, category: Category) -> Response:
    """Remove a category's cap."""
    return _remove(call, PolicyKind.FREQUENCY_CAP, category)


@GROUP.endpoint("PUT", "/policies/preferences", access=Access.SECRET, answers=_SET_DEFAULTS)
def set_default_preferences(call: Call, body: PreferenceDefaults) -> Response:
    """Set what recipients get who said nothing, of all categories that have no defaults of their own."""
    return _set(call, PolicyKind.PREFERENCES, "", body, _defaults)


@GROUP.endpoint("GET", "/policies/preferences", access=Access.SECRET, answers=_SET_DEFAULTS, errors=_NO_POLICY)
def show_default_preferences(call: Call) -> Response:
    """Show what recipients get who said nothing."""
    return _show(call, PolicyKind.PREFERENCES, "", _defaults)


@GROUP.endpoint("DELETE", "/policies/preferences", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY)
def remove_default_preferences(call: Call) -> Response:
    """Remove the defaults: whoever said nothing gets everything."""
    return _remove(call, PolicyKind.PREFERENCES, "")


@GROUP.endpoint("PUT", "/policies/preferences/{category}", access=Access.SECRET, answers=_SET_DEFAULTS)
def set_category_preferences(call: Call, category: Category, body: CategoryDefaults) -> Response:
    """Set what recipients get of a category who said nothing, or that nobody can refuse it."""
    return _set(call, PolicyKind.PREFERENCES, category, body, _defaults)


@GROUP.endpoint(
    "GET", "/policies/preferences/{category}", access=Access.SECRET, answers=_SET_DEFAULTS, errors=_NO_POLICY
)
def show_category_preferences(call: Call, category: Category) -> Response:
    """Show a category's defaults."""
    return _show(call, PolicyKind.PREFERENCES, category, _defaults)


@GROUP.endpoint(
    "DELETE", "/policies/preferences/{category}", access=Access.SECRET, answers=_GONE, errors=_NO_OWN_POLICY
)
def remove_category_preferences(call: Call, category: Category) -> Response:
    """Remove a category's defaults."""
    return _remove(call, PolicyKind.PREFERENCES, category)


_Form = Callable[[Call, Policy], Mapping[str, Any]]


def _set(call: Call, kind: PolicyKind, name: str, body: Strict, form: _Form) -> Response:
    services = call.services
    policies.put(services.ledger, call.tenant, kind, stored(body), call.actor, services.clock(), name=name)
    # Read back: saying the same again changes nothing, the time included.
    return _show(call, kind, name, form)


def _show(call: Call, kind: PolicyKind, name: str, form: _Form) -> Response:
    found = policies.find(call.services.ledger, call.tenant, kind).get(name)
    if found is None:
        raise _no_policy()
    return answer(200, form(call, found))


def _remove(call: Call, kind: PolicyKind, name: str) -> Response:
    services = call.services
    if not policies.remove(services.ledger, call.tenant, kind, call.actor, services.clock(), name=name):
        raise _no_policy()
    return empty()


def _no_policy() -> ApiError:
    return not_found("There is no such policy.")


def _stored(call: Call, policy: Policy) -> dict[str, Any]:
    return {**policy.value, "inherited": policy.tenant != call.tenant, "updated_at": policy.updated_at}


def _retry(call: Call, policy: Policy) -> Mapping[str, Any]:
    return {"channel": policy.name or None, **_stored(call, policy)}


def _quiet(call: Call, policy: Policy) -> Mapping[str, Any]:
    return _stored(call, policy)


def _cap(call: Call, policy: Policy) -> Mapping[str, Any]:
    return {"category": policy.name or None, **_stored(call, policy)}


def _defaults(call: Call, policy: Policy) -> Mapping[str, Any]:
    return {"category": policy.name or None, "mandatory": False, **_stored(call, policy)}
