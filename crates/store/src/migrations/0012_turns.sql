-- Limits across runs: of all jobs with a key, only so many are under way at a time.

-- The key of a job is declared with it, and goes with it.
CREATE TABLE keyed (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  most INTEGER NOT NULL CHECK (most >= 1),
  -- Since when it waits for its turn, and when its run looked for it last; NULL while it does not wait. The wait itself is
  -- that of a deferred job.
  parked_since INTEGER,
  parked_seen INTEGER,
  PRIMARY KEY (job),
  CHECK ((parked_since IS NULL) = (parked_seen IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX keyed_parked ON keyed (key, parked_since, job) WHERE parked_since IS NOT NULL;

-- A turn is a row: an attempt that is under way has one, and a group from before it has children until it has ended.
CREATE TABLE turns (
  key TEXT NOT NULL,
  place INTEGER NOT NULL CHECK (place >= 0),
  job INTEGER NOT NULL UNIQUE REFERENCES jobs (id) ON DELETE CASCADE,
  PRIMARY KEY (key, place)
) STRICT, WITHOUT ROWID;
