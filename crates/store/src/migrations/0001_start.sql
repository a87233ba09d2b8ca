-- Never edited once released; a change is a further file.
-- Instants are microseconds UTC; run_after 0 means at once; payloads are JSON text.

CREATE TABLE meta (
  only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
  store_id TEXT NOT NULL,
  schema_version INTEGER NOT NULL,
  schema_digest TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  clock_anchor INTEGER NOT NULL,
  openings INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
  node TEXT NOT NULL,
  incarnation INTEGER NOT NULL CHECK (incarnation >= 1),
  opening INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  report TEXT,
  PRIMARY KEY (node, incarnation)
) STRICT, WITHOUT ROWID;

CREATE INDEX nodes_alive ON nodes (node, incarnation) WHERE ended_at IS NULL;

CREATE TABLE streams (
  stream TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL,
  closed INTEGER NOT NULL DEFAULT 0 CHECK (closed IN (0, 1)),
  owner_node TEXT,
  owner_incarnation INTEGER,
  fencing INTEGER NOT NULL DEFAULT 0,
  created_at INTEGER NOT NULL,
  closed_at INTEGER,
  CHECK ((owner_node IS NULL) = (owner_incarnation IS NULL)),
  CHECK ((closed = 1) = (closed_at IS NOT NULL)),
  FOREIGN KEY (owner_node, owner_incarnation) REFERENCES nodes (node, incarnation)
) STRICT;

CREATE INDEX streams_kind ON streams (kind);

CREATE TABLE heads (
  stream TEXT NOT NULL PRIMARY KEY REFERENCES streams (stream) ON DELETE CASCADE,
  revision INTEGER NOT NULL,
  next_seq INTEGER NOT NULL CHECK (next_seq >= 1),
  hash TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events (
  stream TEXT NOT NULL REFERENCES streams (stream) ON DELETE CASCADE,
  seq INTEGER NOT NULL CHECK (seq >= 1),
  at INTEGER NOT NULL,
  kind TEXT NOT NULL,
  job TEXT,
  attempt INTEGER,
  data TEXT NOT NULL,
  hash TEXT NOT NULL,
  PRIMARY KEY (stream, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
  digest TEXT NOT NULL PRIMARY KEY CHECK (length(digest) = 64),
  bytes BLOB NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE runs (
  run TEXT NOT NULL PRIMARY KEY REFERENCES streams (stream) ON DELETE CASCADE,
  workflow TEXT NOT NULL,
  definition TEXT NOT NULL REFERENCES blobs (digest),
  input_digest TEXT NOT NULL,
  settings TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'paused', 'cancelling', 'succeeded',
    'partially_succeeded', 'failed', 'timed_out', 'cancelled')),
  failure TEXT,
  created_at INTEGER NOT NULL,
  finished_at INTEGER,
  deadline INTEGER,
  CHECK ((finished_at IS NULL) = (state IN ('pending', 'running', 'paused', 'cancelling')))
) STRICT;

CREATE INDEX runs_created ON runs (created_at);
CREATE INDEX runs_unfinished ON runs (created_at)
  WHERE state IN ('pending', 'running', 'paused', 'cancelling');

CREATE TABLE stages (
  run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
  stage TEXT NOT NULL,
  ordinal INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('waiting', 'open', 'sealed', 'closed')),
  outcome TEXT CHECK (outcome IN ('succeeded', 'partial', 'failed', 'skipped', 'cancelled')),
  PRIMARY KEY (run, stage)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
  id INTEGER PRIMARY KEY,
  run TEXT NOT NULL,
  stage TEXT NOT NULL,
  parent TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'succeeded', 'partial',
    'failed', 'skipped', 'cancelled')),
  skipped TEXT CHECK (skipped IN ('not_applicable', 'upstream')),
  attempt INTEGER NOT NULL DEFAULT 0,
  attempts_used INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
  crashes INTEGER NOT NULL DEFAULT 0,
  run_after INTEGER NOT NULL DEFAULT 0,
  lease_node TEXT,
  lease_incarnation INTEGER,
  dead_letter INTEGER NOT NULL DEFAULT 0 CHECK (dead_letter IN (0, 1)),
  UNIQUE (run, stage, parent, key),
  CHECK ((state = 'leased') = (lease_node IS NOT NULL)),
  CHECK ((lease_node IS NULL) = (lease_incarnation IS NULL)),
  CHECK ((state = 'skipped') = (skipped IS NOT NULL)),
  CHECK (attempts_used <= max_attempts AND attempts_used <= attempt),
  FOREIGN KEY (run, stage) REFERENCES stages (run, stage) ON DELETE CASCADE,
  FOREIGN KEY (lease_node, lease_incarnation) REFERENCES nodes (node, incarnation)
) STRICT;

CREATE INDEX jobs_ready ON jobs (run, run_after, id) WHERE state = 'ready';
CREATE INDEX jobs_due ON jobs (run_after) WHERE state = 'ready' AND run_after > 0;
CREATE INDEX jobs_leased ON jobs (lease_node, lease_incarnation) WHERE state = 'leased';

CREATE TABLE attempts (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL CHECK (attempt >= 1),
  node TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  claimed_at INTEGER NOT NULL,
  ended_at INTEGER,
  ended_as TEXT CHECK (ended_as IN ('succeeded', 'partial', 'skipped', 'error', 'timed_out',
    'expired', 'released', 'cancelled')),
  class TEXT,
  code TEXT,
  message TEXT,
  uncertain INTEGER NOT NULL DEFAULT 0 CHECK (uncertain IN (0, 1)),
  PRIMARY KEY (job, attempt),
  CHECK ((ended_at IS NULL) = (ended_as IS NULL)),
  FOREIGN KEY (node, incarnation) REFERENCES nodes (node, incarnation)
) STRICT, WITHOUT ROWID;

CREATE TABLE inputs (
  job INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
  data TEXT NOT NULL
) STRICT;

CREATE TABLE results (
  job INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
  data TEXT NOT NULL
) STRICT;

CREATE TABLE checkpoints (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  idempotency_key TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  recorded_at INTEGER,
  reply TEXT,
  UNIQUE (job, name),
  CHECK ((recorded_at IS NULL) = (reply IS NULL))
) STRICT;

CREATE TABLE timers (
  owner TEXT NOT NULL,
  name TEXT NOT NULL,
  run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
  at INTEGER NOT NULL,
  PRIMARY KEY (owner, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX timers_at ON timers (at);
CREATE INDEX timers_run ON timers (run);
