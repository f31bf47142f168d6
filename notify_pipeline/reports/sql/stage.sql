-- One delivery per row, for the affected notifications only: its deciding attempt, its beacons, its final outcome.

-- What the provider last said wins over silence, silence over never having been asked; acceptance wins over all:
-- accepted, invalid, permanent, ambiguous, throttled or transient (the later of the two), expired, skipped, dry run.
CREATE OR REPLACE TEMP TABLE attempts AS
SELECT
    a.*,
    coalesce(a.platform, 'unknown') AS report_platform,
    coalesce(a.channel, 'none') AS report_channel,
    a.outcome NOT IN ('skipped', 'expired', 'dry_run') AS is_call,
    CASE a.outcome
        WHEN 'accepted' THEN 1
        WHEN 'invalid_recipient' THEN 2
        WHEN 'permanent' THEN 3
        WHEN 'ambiguous' THEN 4
        WHEN 'throttled' THEN 5
        WHEN 'transient' THEN 5
        WHEN 'expired' THEN 6
        WHEN 'skipped' THEN 7
        ELSE 8
    END AS precedence
FROM stage.attempts AS a;

-- A recipient that got no call has no provider of its own: it is counted with its channel's.
CREATE OR REPLACE TEMP TABLE providers AS
SELECT tenant, notification_id, report_channel, report_platform, coalesce(min(provider), report_channel) AS provider
FROM attempts
GROUP BY tenant, notification_id, report_channel, report_platform;

CREATE OR REPLACE TEMP TABLE beacons AS
SELECT
    notification_id,
    delivery_id,
    min("at") AS first_at,
    min("at") FILTER (event = 'received') AS received_at,
    count(*) FILTER (event = 'received') AS hits,
    count(*) AS lines,
    bool_or(event = 'opened') AS opened,
    bool_or(event = 'clicked') AS clicked
FROM stage.receipts
GROUP BY notification_id, delivery_id;

CREATE OR REPLACE TEMP TABLE decided AS
SELECT tenant, notification_id, delivery_id, report_channel, report_platform, provider, outcome, provider_code
FROM attempts
QUALIFY row_number() OVER (
    PARTITION BY tenant, notification_id, delivery_id
    ORDER BY precedence, attempt_no DESC, sent_at DESC, outcome, provider_code, provider, report_platform
) = 1;

CREATE OR REPLACE TEMP TABLE calls AS
SELECT
    tenant,
    notification_id,
    delivery_id,
    bool_or(is_call) AS called,
    min(coalesce(answered_at, sent_at)) FILTER (outcome = 'accepted') AS accepted_at
FROM attempts
GROUP BY ALL;

-- A device that reports a delivery has it, whatever the provider said or failed to say: such a delivery is accepted.
-- One that no provider was called for cannot have arrived: its beacons are foreign.
-- Moments before acceptance are clocks that disagree: they count as zero seconds.
CREATE OR REPLACE TEMP TABLE deliveries AS
WITH joined AS (
    SELECT
        d.tenant,
        d.notification_id,
        d.delivery_id,
        d.report_channel AS channel,
        d.report_platform AS platform,
        coalesce(d.provider, p.provider) AS provider,
        CASE WHEN b.delivery_id IS NULL THEN d.outcome ELSE 'accepted' END AS outcome,
        d.provider_code,
        b.delivery_id IS NOT NULL AND d.outcome <> 'accepted' AS by_beacon,
        c.called,
        CASE WHEN d.outcome = 'accepted' THEN c.accepted_at ELSE b.first_at END AS accepted_at,
        b.received_at,
        coalesce(b.hits, 0) AS hits,
        coalesce(b.opened, FALSE) AS opened,
        coalesce(b.clicked, FALSE) AS clicked,
        epoch_us(coalesce(r.send_at, r.accepted_at)) AS due_us
    FROM decided AS d
    JOIN calls AS c USING (tenant, notification_id, delivery_id)
    JOIN stage.requests AS r USING (tenant, notification_id)
    JOIN providers AS p
        ON p.tenant = d.tenant AND p.notification_id = d.notification_id
        AND p.report_channel = d.report_channel AND p.report_platform = d.report_platform
    LEFT JOIN beacons AS b
        ON c.called AND b.notification_id = d.notification_id AND b.delivery_id = d.delivery_id
)
SELECT
    *,
    CASE WHEN accepted_at IS NOT NULL THEN greatest(0, epoch_us(accepted_at) - due_us) / 1e6 END AS accepted_s,
    CASE WHEN received_at IS NOT NULL THEN greatest(0, epoch_us(received_at) - due_us) / 1e6 END AS received_s
FROM joined;
