-- What jobs wait for: things that are not available now, signals, answers, instants.
--
-- The lists of states of jobs and of ends of attempts grow. Such a list cannot be altered in place, so
-- their tables are built anew, with those that refer to them: rows keep their ids, and nothing that is
-- dropped has a row that refers to it.

CREATE TABLE jobs_new (
  id INTEGER PRIMARY KEY,
  run TEXT NOT NULL,
  stage TEXT NOT NULL,
  parent TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended',
    'succeeded', 'partial', 'failed', 'skipped', 'cancelled')),
  skipped TEXT CHECK (skipped IN ('not_applicable', 'upstream', 'unavailable', 'unknown_tool',
    'operator', 'disabled')),
  attempt INTEGER NOT NULL DEFAULT 0,
  attempts_used INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL CHECK (max_attempts >= 1),
  crashes INTEGER NOT NULL DEFAULT 0,
  run_after INTEGER NOT NULL DEFAULT 0,
  lease_node TEXT,
  lease_incarnation INTEGER,
  dead_letter INTEGER NOT NULL DEFAULT 0 CHECK (dead_letter IN (0, 1)),
  wake_at INTEGER,
  defer_cause TEXT,
  defer_until INTEGER,
  defer_then TEXT CHECK (defer_then IN ('fail', 'skip')),
  deferred_since INTEGER,
  UNIQUE (run, stage, parent, key),
  CHECK ((state = 'leased') = (lease_node IS NOT NULL)),
  CHECK ((lease_node IS NULL) = (lease_incarnation IS NULL)),
  CHECK ((state = 'skipped') = (skipped IS NOT NULL)),
  CHECK (attempts_used <= max_attempts AND attempts_used <= attempt),
  CHECK ((state = 'deferred') = (wake_at IS NOT NULL)),
  CHECK ((wake_at IS NULL) = (defer_cause IS NULL)),
  CHECK ((wake_at IS NULL) = (defer_until IS NULL)),
  CHECK ((wake_at IS NULL) = (defer_then IS NULL)),
  CHECK (wake_at IS NULL OR (deferred_since IS NOT NULL AND wake_at <= defer_until)),
  FOREIGN KEY (run, stage) REFERENCES stages (run, stage) ON DELETE CASCADE,
  FOREIGN KEY (lease_node, lease_incarnation) REFERENCES nodes (node, incarnation)
) STRICT;

INSERT INTO jobs_new (id, run, stage, parent, key, state, skipped, attempt, attempts_used,
  max_attempts, crashes, run_after, lease_node, lease_incarnation, dead_letter)
  SELECT id, run, stage, parent, key, state, skipped, attempt, attempts_used, max_attempts, crashes,
  run_after, lease_node, lease_incarnation, dead_letter FROM jobs;

CREATE TABLE attempts_new (
  job INTEGER NOT NULL REFERENCES jobs_new (id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL CHECK (attempt >= 1),
  node TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  claimed_at INTEGER NOT NULL,
  ended_at INTEGER,
  ended_as TEXT CHECK (ended_as IN ('succeeded', 'partial', 'skipped', 'error', 'timed_out',
    'expired', 'released', 'unavailable', 'suspended', 'cancelled')),
  class TEXT,
  code TEXT,
  message TEXT,
  uncertain INTEGER NOT NULL DEFAULT 0 CHECK (uncertain IN (0, 1)),
  PRIMARY KEY (job, attempt),
  CHECK ((ended_at IS NULL) = (ended_as IS NULL)),
  FOREIGN KEY (node, incarnation) REFERENCES nodes (node, incarnation)
) STRICT, WITHOUT ROWID;

INSERT INTO attempts_new (job, attempt, node, incarnation, claimed_at, ended_at, ended_as, class,
  code, message, uncertain)
  SELECT job, attempt, node, incarnation, claimed_at, ended_at, ended_as, class, code, message,
  uncertain FROM attempts;

CREATE TABLE inputs_new (
  job INTEGER PRIMARY KEY REFERENCES jobs_new (id) ON DELETE CASCADE,
  data TEXT NOT NULL
) STRICT;

INSERT INTO inputs_new (job, data) SELECT job, data FROM inputs;

CREATE TABLE results_new (
  job INTEGER PRIMARY KEY REFERENCES jobs_new (id) ON DELETE CASCADE,
  data TEXT NOT NULL
) STRICT;

INSERT INTO results_new (job, data) SELECT job, data FROM results;

CREATE TABLE checkpoints_new (
  job INTEGER NOT NULL REFERENCES jobs_new (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  idempotency_key TEXT NOT NULL,
  begun_at INTEGER NOT NULL,
  recorded_at INTEGER,
  reply TEXT,
  UNIQUE (job, name),
  CHECK ((recorded_at IS NULL) = (reply IS NULL))
) STRICT;

INSERT INTO checkpoints_new (job, name, attempt, idempotency_key, begun_at, recorded_at, reply)
  SELECT job, name, attempt, idempotency_key, begun_at, recorded_at, reply FROM checkpoints;

DROP TABLE attempts;
DROP TABLE inputs;
DROP TABLE results;
DROP TABLE checkpoints;
DROP TABLE jobs;

ALTER TABLE jobs_new RENAME TO jobs;
ALTER TABLE attempts_new RENAME TO attempts;
ALTER TABLE inputs_new RENAME TO inputs;
ALTER TABLE results_new RENAME TO results;
ALTER TABLE checkpoints_new RENAME TO checkpoints;

CREATE INDEX jobs_ready ON jobs (run, run_after, id) WHERE state = 'ready';
CREATE INDEX jobs_due ON jobs (run_after) WHERE state = 'ready' AND run_after > 0;
CREATE INDEX jobs_leased ON jobs (lease_node, lease_incarnation) WHERE state = 'leased';
CREATE INDEX jobs_deferred ON jobs (wake_at) WHERE state = 'deferred';

-- The last thing that a job waited for. It is open until somebody or something ended it.
CREATE TABLE waits (
  job INTEGER PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
  kind TEXT NOT NULL CHECK (kind IN ('signal', 'answer', 'timer')),
  name TEXT NOT NULL,
  about TEXT NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  fallback TEXT NOT NULL CHECK (fallback IN ('resume', 'skip', 'fail')),
  fallback_value TEXT,
  ended_as TEXT CHECK (ended_as IN ('sent', 'deadline', 'timer', 'cancelled')),
  ended_by TEXT,
  ended_at INTEGER,
  answer TEXT,
  CHECK ((ended_as IS NULL) = (ended_at IS NULL)),
  CHECK (ended_as IS NOT NULL OR (ended_by IS NULL AND answer IS NULL)),
  CHECK ((fallback = 'resume') = (fallback_value IS NOT NULL))
) STRICT;

CREATE INDEX waits_open ON waits (until) WHERE ended_as IS NULL;

-- What runs were sent, taken or not; the request tells a repetition.
CREATE TABLE signals (
  run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
  request TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('signal', 'answer')),
  name TEXT NOT NULL,
  payload TEXT NOT NULL,
  sent_by TEXT NOT NULL,
  why TEXT NOT NULL,
  at INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  taken_by INTEGER,
  taken_at INTEGER,
  PRIMARY KEY (run, request),
  CHECK ((taken_by IS NULL) = (taken_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX signals_named ON signals (run, kind, name, seq);
CREATE UNIQUE INDEX signals_answer ON signals (run, name) WHERE kind = 'answer' AND taken_by IS NULL;
