-- Results that later runs take instead of making them again. They belong to no run.

CREATE TABLE cache (
  key TEXT NOT NULL PRIMARY KEY CHECK (length(key) = 64),
  data TEXT NOT NULL,
  bytes INTEGER NOT NULL CHECK (bytes >= 0),
  expires_at INTEGER NOT NULL,
  used_at INTEGER NOT NULL
) STRICT;

CREATE INDEX cache_expires ON cache (expires_at);
CREATE INDEX cache_used ON cache (used_at, bytes);
