-- Parameters: tenant, notification_id.
SELECT * FROM notifications WHERE notification_id = $notification_id AND tenant = $tenant
