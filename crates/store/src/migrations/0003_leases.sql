-- Until when a node may act, on a store that several nodes share. NULL: it lives until it ends, or until the
-- store's lock proves that its process is gone.
ALTER TABLE nodes ADD COLUMN lease_until INTEGER;

CREATE INDEX nodes_expiring ON nodes (lease_until) WHERE ended_at IS NULL AND lease_until IS NOT NULL;
