-- What attempts save while they work, and what they say of how far they are.

-- Values that later attempts of the same job take instead of making them again.
CREATE TABLE saved (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  saved_at INTEGER NOT NULL,
  bytes INTEGER NOT NULL CHECK (bytes >= 0),
  kept INTEGER NOT NULL CHECK (kept IN (0, 1)),
  data TEXT,
  digest TEXT REFERENCES blobs (digest),
  PRIMARY KEY (job, name),
  CHECK ((data IS NULL) <> (digest IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX saved_digest ON saved (digest) WHERE digest IS NOT NULL;

-- The last that an attempt has said of itself.
CREATE TABLE beats (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  at INTEGER NOT NULL,
  noted_at INTEGER NOT NULL,
  progress TEXT NOT NULL,
  PRIMARY KEY (job, attempt),
  CHECK (first_at <= at AND noted_at <= at)
) STRICT, WITHOUT ROWID;

-- Deaths of its process after which a job is not tried again.
ALTER TABLE jobs ADD COLUMN crashes_max INTEGER NOT NULL DEFAULT 3 CHECK (crashes_max >= 1);
