-- Several stages in a run, groups of jobs.
--
-- The list of states of jobs grows: their table is built anew, with those that refer to it, as in 0004.

ALTER TABLE stages ADD COLUMN feed TEXT NOT NULL DEFAULT 'driven'
  CHECK (feed IN ('static', 'per_item', 'barrier', 'driven'));
-- The stage that feeds it; '' where none does.
ALTER TABLE stages ADD COLUMN upstream TEXT NOT NULL DEFAULT '';
-- How many of its own jobs are under way at a time. NULL: as many as there is room for.
ALTER TABLE stages ADD COLUMN concurrency INTEGER CHECK (concurrency >= 1);
ALTER TABLE stages ADD COLUMN required INTEGER NOT NULL DEFAULT 1 CHECK (required IN (0, 1));
ALTER TABLE stages ADD COLUMN weight INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 0);

CREATE TABLE jobs_new (
  id INTEGER PRIMARY KEY,
  run TEXT NOT NULL,
  stage TEXT NOT NULL,
  parent TEXT NOT NULL DEFAULT '',
  key TEXT NOT NULL,
  kind TEXT NOT NULL DEFAULT 'step' CHECK (kind IN ('step', 'activity', 'group')),
  state TEXT NOT NULL CHECK (state IN ('blocked', 'ready', 'leased', 'deferred', 'suspended', 'joining',
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
  crashes_max INTEGER NOT NULL DEFAULT 3 CHECK (crashes_max >= 1),
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
  CHECK (kind = 'group' OR state <> 'joining'),
  CHECK (kind <> 'group' OR (state <> 'leased' AND state <> 'suspended' AND attempt = 0)),
  FOREIGN KEY (run, stage) REFERENCES stages (run, stage) ON DELETE CASCADE,
  FOREIGN KEY (lease_node, lease_incarnation) REFERENCES nodes (node, incarnation)
) STRICT;

INSERT INTO jobs_new (id, run, stage, parent, key, state, skipped, attempt, attempts_used, max_attempts,
  crashes, run_after, lease_node, lease_incarnation, dead_letter, wake_at, defer_cause, defer_until,
  defer_then, deferred_since, crashes_max)
  SELECT id, run, stage, parent, key, state, skipped, attempt, attempts_used, max_attempts, crashes,
  run_after, lease_node, lease_incarnation, dead_letter, wake_at, defer_cause, defer_until, defer_then,
  deferred_since, crashes_max FROM jobs;

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

CREATE TABLE waits_new (
  job INTEGER PRIMARY KEY REFERENCES jobs_new (id) ON DELETE CASCADE,
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

INSERT INTO waits_new (job, kind, name, about, since, until, fallback, fallback_value, ended_as,
  ended_by, ended_at, answer)
  SELECT job, kind, name, about, since, until, fallback, fallback_value, ended_as, ended_by, ended_at,
  answer FROM waits;

CREATE TABLE saved_new (
  job INTEGER NOT NULL REFERENCES jobs_new (id) ON DELETE CASCADE,
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

INSERT INTO saved_new (job, name, attempt, saved_at, bytes, kept, data, digest)
  SELECT job, name, attempt, saved_at, bytes, kept, data, digest FROM saved;

CREATE TABLE beats_new (
  job INTEGER NOT NULL REFERENCES jobs_new (id) ON DELETE CASCADE,
  attempt INTEGER NOT NULL,
  first_at INTEGER NOT NULL,
  at INTEGER NOT NULL,
  noted_at INTEGER NOT NULL,
  progress TEXT NOT NULL,
  PRIMARY KEY (job, attempt),
  CHECK (first_at <= at AND noted_at <= at)
) STRICT, WITHOUT ROWID;

INSERT INTO beats_new (job, attempt, first_at, at, noted_at, progress)
  SELECT job, attempt, first_at, at, noted_at, progress FROM beats;

DROP TABLE attempts;
DROP TABLE inputs;
DROP TABLE results;
DROP TABLE checkpoints;
DROP TABLE waits;
DROP TABLE saved;
DROP TABLE beats;
DROP TABLE jobs;

ALTER TABLE jobs_new RENAME TO jobs;
ALTER TABLE attempts_new RENAME TO attempts;
ALTER TABLE inputs_new RENAME TO inputs;
ALTER TABLE results_new RENAME TO results;
ALTER TABLE checkpoints_new RENAME TO checkpoints;
ALTER TABLE waits_new RENAME TO waits;
ALTER TABLE saved_new RENAME TO saved;
ALTER TABLE beats_new RENAME TO beats;

-- Numbers of jobs go on where they were.
/*server SELECT setval(pg_get_serial_sequence('jobs', 'id'), GREATEST((SELECT MAX(id) FROM jobs), 1));*/

CREATE INDEX jobs_ready ON jobs (run, run_after, id) WHERE state = 'ready';
CREATE INDEX jobs_due ON jobs (run_after) WHERE state = 'ready' AND run_after > 0;
CREATE INDEX jobs_leased ON jobs (lease_node, lease_incarnation) WHERE state = 'leased';
CREATE INDEX jobs_deferred ON jobs (wake_at) WHERE state = 'deferred';
-- What may be claimed of one stage, and what takes its places.
CREATE INDEX jobs_ready_of_stage ON jobs (run, stage, run_after, id)
  WHERE state = 'ready' AND kind = 'activity' AND parent = '';
CREATE INDEX jobs_held_of_stage ON jobs (run, stage)
  WHERE state IN ('leased', 'joining') AND parent = '' AND kind <> 'step';
CREATE INDEX waits_open ON waits (until) WHERE ended_as IS NULL;
CREATE INDEX saved_digest ON saved (digest) WHERE digest IS NOT NULL;
