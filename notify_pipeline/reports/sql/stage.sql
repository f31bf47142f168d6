-- One delivery per row, for the affected notifications only: its deciding attempt, its beacons, its final outcome.

-- What the provider last said wins over silence, silence over never having been asked; acceptance wins over all:
-- accepted, invalid, permanent, ambiguous, throttled or transient (the later of the two), expired, skipped, dry run.
CREATE OR REPLACE TEMP VIEW attempts AS
SELECT
    a.*,
    coalesce(a.platform, 'unknown'::stage.word) AS report_platform,
    coalesce(a.channel, 'none'::stage.word) AS report_channel,
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
SELECT notification, report_channel, report_platform, coalesce(min(provider), report_channel) AS provider,
    report_channel::VARCHAR IN (SELECT channel FROM stage.reporting_channels) AS reports
FROM attempts
GROUP BY notification, report_channel, report_platform;

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

-- Nearly every delivery has one row, and that one decides. Which have several, a hash tells quickly; should two
-- deliveries share one, both are looked at closely for nothing.
CREATE OR REPLACE TEMP TABLE repeated AS
SELECT hash(notification, delivery_id) AS hash_ FROM attempts GROUP BY hash_ HAVING count(*) > 1;

-- Files that hold the same rows, as after a compaction that died, change nothing.
CREATE OR REPLACE TEMP TABLE repeats AS
SELECT DISTINCT * EXCLUDE (hash_)
FROM (SELECT *, hash(notification, delivery_id) AS hash_ FROM attempts) SEMI JOIN repeated USING (hash_);

CREATE OR REPLACE TEMP TABLE several AS
SELECT notification, delivery_id, report_channel, report_platform, provider, outcome, provider_code,
    min(sent_at) FILTER (is_call) OVER same AS called_at,
    min(coalesce(answered_at, sent_at)) FILTER (outcome = 'accepted') OVER same AS accepted_at
FROM repeats
WINDOW same AS (PARTITION BY notification, delivery_id)
QUALIFY row_number() OVER (
    PARTITION BY notification, delivery_id
    ORDER BY precedence, attempt_no DESC, sent_at DESC, outcome, provider_code, provider, report_platform
) = 1;

-- A device that reports a delivery has it, whatever the provider said or failed to say: such a delivery is accepted.
-- One that no provider was called for cannot have arrived: its beacons are foreign.
-- Moments before acceptance are clocks that disagree: they count as zero seconds.
CREATE OR REPLACE TEMP TABLE deliveries AS
WITH decided AS (
    SELECT notification, delivery_id, report_channel, report_platform, provider, outcome, provider_code,
        CASE WHEN is_call THEN sent_at END AS called_at, coalesce(answered_at, sent_at) AS accepted_at
    FROM (SELECT *, hash(notification, delivery_id) AS hash_ FROM attempts) ANTI JOIN repeated USING (hash_)
    UNION ALL BY NAME
    FROM several
),
joined AS (
    SELECT
        d.notification,
        d.report_channel AS channel,
        d.report_platform AS platform,
        coalesce(d.provider, p.provider) AS provider,
        CASE WHEN b.delivery_id IS NULL THEN d.outcome ELSE 'accepted'::stage.word END AS outcome,
        d.provider_code,
        b.delivery_id IS NOT NULL AND d.outcome <> 'accepted' AS by_beacon,
        p.reports,
        d.called_at,
        CASE WHEN d.outcome = 'accepted' THEN d.accepted_at END AS answered_at,
        coalesce(answered_at, b.first_at) AS accepted_at,
        b.received_at,
        coalesce(b.hits, 0) AS hits,
        coalesce(b.opened, FALSE) AS opened,
        coalesce(b.clicked, FALSE) AS clicked,
        epoch_us(coalesce(r.send_at, r.accepted_at)) AS due_us
    FROM decided AS d
    JOIN stage.numbered AS r USING (notification)
    JOIN providers AS p USING (notification, report_channel, report_platform)
    LEFT JOIN beacons AS b
        ON d.called_at IS NOT NULL AND b.notification_id = r.notification_id AND b.delivery_id = d.delivery_id
)
SELECT
    * EXCLUDE (due_us, received_at, answered_at, called_at),
    called_at IS NOT NULL AS called,
    CASE WHEN accepted_at IS NOT NULL THEN greatest(0, epoch_us(accepted_at) - due_us) END AS accepted_us,
    CASE WHEN called_at IS NOT NULL THEN greatest(0, epoch_us(called_at) - due_us) END AS queued_us,
    CASE WHEN answered_at IS NOT NULL THEN greatest(0, epoch_us(answered_at) - epoch_us(called_at)) END AS provider_us,
    CASE WHEN answered_at IS NOT NULL AND received_at IS NOT NULL
        THEN greatest(0, epoch_us(received_at) - epoch_us(answered_at)) END AS device_us,
    CASE WHEN received_at IS NOT NULL THEN greatest(0, epoch_us(received_at) - due_us) END AS total_us
FROM joined;
