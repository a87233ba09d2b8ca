-- Numbers of sequences, which are never used again, and numbers of pools, which are given back.

-- What the next number of a scope is.
CREATE TABLE sequences (
  sequence TEXT NOT NULL,
  scope TEXT NOT NULL,
  next INTEGER NOT NULL CHECK (next >= 1),
  PRIMARY KEY (sequence, scope)
) STRICT, WITHOUT ROWID;

-- Every number below the next one, and the key that has it. They stay when their run goes. `version` is the newest
-- version of what has the number.
CREATE TABLE allocations (
  sequence TEXT NOT NULL,
  scope TEXT NOT NULL,
  number INTEGER NOT NULL CHECK (number >= 1),
  key TEXT NOT NULL,
  version INTEGER NOT NULL DEFAULT 1 CHECK (version >= 1),
  run TEXT NOT NULL,
  job TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  allocated_at INTEGER NOT NULL,
  PRIMARY KEY (sequence, scope, number),
  UNIQUE (sequence, scope, key),
  FOREIGN KEY (sequence, scope) REFERENCES sequences (sequence, scope)
) STRICT, WITHOUT ROWID;

CREATE INDEX allocations_run ON allocations (run);

-- Versions of what has a number, but for the first, which its allocation is.
CREATE TABLE allocation_versions (
  sequence TEXT NOT NULL,
  scope TEXT NOT NULL,
  number INTEGER NOT NULL,
  version INTEGER NOT NULL CHECK (version >= 2),
  parent INTEGER NOT NULL CHECK (parent >= 1),
  key TEXT NOT NULL,
  run TEXT NOT NULL,
  job TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  allocated_at INTEGER NOT NULL,
  PRIMARY KEY (sequence, scope, number, version),
  UNIQUE (sequence, scope, key),
  CHECK (parent < version),
  FOREIGN KEY (sequence, scope, number) REFERENCES allocations (sequence, scope, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX allocation_versions_run ON allocation_versions (run);

-- Numbers of pools that an attempt holds, or that are fenced until an instant; all others are free.
CREATE TABLE slot_pools (
  pool TEXT NOT NULL,
  number INTEGER NOT NULL,
  job INTEGER,
  attempt INTEGER,
  name TEXT,
  taken_at INTEGER,
  fenced_until INTEGER,
  PRIMARY KEY (pool, number),
  FOREIGN KEY (job, attempt) REFERENCES attempts (job, attempt) ON DELETE CASCADE,
  CHECK ((job IS NULL) = (attempt IS NULL) AND (job IS NULL) = (name IS NULL)
    AND (job IS NULL) = (taken_at IS NULL) AND (job IS NULL) = (fenced_until IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX slot_pools_held ON slot_pools (job, attempt) WHERE job IS NOT NULL;
