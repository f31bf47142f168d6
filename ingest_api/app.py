"""The ingress application: ``granian --interface wsgi --factory ingest_api.app:create_app``.

Belongs here: putting the groups together. Does not belong here: routes, and anything that opens a file or a connection
before the first request.
"""

from importlib.metadata import version

from flask import Flask

from ingest_api import errors
from ingest_api.callbacks.routes import GROUP as CALLBACKS
from ingest_api.connections.routes import GROUP as CONNECTIONS
from ingest_api.dashboard.routes import blueprint as dashboard_blueprint
from ingest_api.dead_letters.routes import GROUP as DEAD_LETTERS
from ingest_api.devices.routes import GROUP as DEVICES
from ingest_api.docs.routes import blueprint as docs_blueprint
from ingest_api.domain_messages.reading import GROUP as MESSAGES
from ingest_api.domain_stats.routes import GROUP as DOMAIN_STATS
from ingest_api.domains.routes import GROUP as DOMAINS
from ingest_api.email.routes import GROUP as EMAIL
from ingest_api.email.ses import GROUP as SES
from ingest_api.endpoint import Group
from ingest_api.erasures.routes import GROUP as ERASURES
from ingest_api.event_routes.dry_run import GROUP as ROUTES
from ingest_api.events.following import GROUP as EVENTS
from ingest_api.inbox.routes import GROUP as INBOX
from ingest_api.lean import LeanFlask
from ingest_api.limits.routes import GROUP as LIMITS
from ingest_api.looks.routes import GROUP as LOOKS
from ingest_api.notifications.routes import GROUP as NOTIFICATIONS
from ingest_api.operations.routes import GROUP as OPERATIONS
from ingest_api.policies.routes import GROUP as POLICIES
from ingest_api.preferences.routes import GROUP as PREFERENCES
from ingest_api.push_contacts.lists import GROUP as PUSH_CONTACTS
from ingest_api.push_script.routes import GROUP as PUSH_SCRIPT
from ingest_api.receipts.routes import GROUP as RECEIPTS
from ingest_api.reports.download_routes import GROUP as REPORTS
from ingest_api.services import Services
from ingest_api.sms.routes import GROUP as SMS
from ingest_api.sms.webhooks import GROUP as SMS_WEBHOOKS
from ingest_api.suppressions.routes import GROUP as SUPPRESSIONS
from ingest_api.templates.routes import GROUP as TEMPLATES
from ingest_api.tenants.key_routes import GROUP as KEYS
from ingest_api.tenants.routes import GROUP as TENANTS
from ingest_api.tracking.routes import GROUP as TRACKING
from ingest_api.unsubscribe.routes import GROUP as UNSUBSCRIBING
from ingest_api.users.routes import GROUP as USERS
from ingest_api.users.token_routes import GROUP as USER_TOKENS
from ingest_api.webpush.routes import GROUP as WEBPUSH
from notify_pipeline.core.settings import Settings

GROUPS: tuple[Group, ...] = (
    TENANTS,
    KEYS,
    POLICIES,
    LIMITS,
    DEVICES,
    WEBPUSH,
    DOMAINS,
    PUSH_CONTACTS,
    PUSH_SCRIPT,
    MESSAGES,
    DOMAIN_STATS,
    USERS,
    ERASURES,
    PREFERENCES,
    UNSUBSCRIBING,
    USER_TOKENS,
    CONNECTIONS,
    INBOX,
    SUPPRESSIONS,
    EMAIL,
    SES,
    TEMPLATES,
    NOTIFICATIONS,
    TRACKING,
    DEAD_LETTERS,
    LOOKS,
    EVENTS,
    ROUTES,
    CALLBACKS,
    RECEIPTS,
    SMS,
    SMS_WEBHOOKS,
    REPORTS,
    OPERATIONS,
)
SERVICES = "notify-services"


def create_app(settings: Settings | None = None, services: Services | None = None) -> Flask:
    """Build the application. Opens nothing: each process opens its own handles at its first request.

    Args:
        settings: By default read from the environment.
        services: Stands in for the handles in tests; then ``settings`` are its own.
    """
    services = services or Services(settings or Settings())
    app = LeanFlask("ingest_api", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.settings.max_body_bytes
    app.url_map.merge_slashes = False
    app.extensions[SERVICES] = services
    errors.install(app)
    for group in GROUPS:
        app.register_blueprint(group.blueprint(services))
    app.register_blueprint(docs_blueprint(GROUPS, version("notify-pipeline")))
    app.register_blueprint(dashboard_blueprint(services))
    return app
