-- Runs that undo what they have done before they end.
--
-- The list of states of runs grows. A server alters its conditions in place. In a file the table is built anew, by itself:
-- whoever applies this step lets nothing follow the references to it meanwhile, and looks at all of them afterwards.

/*file*/ CREATE TABLE runs_new (
  run TEXT NOT NULL PRIMARY KEY REFERENCES streams (stream) ON DELETE CASCADE,
  workflow TEXT NOT NULL,
  definition TEXT NOT NULL REFERENCES blobs (digest),
  input_digest TEXT NOT NULL,
  settings TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'paused', 'cancelling', 'compensating',
    'succeeded', 'partially_succeeded', 'failed', 'timed_out', 'cancelled', 'compensation_failed')),
  failure TEXT,
  created_at INTEGER NOT NULL,
  finished_at INTEGER,
  deadline INTEGER,
  progress INTEGER CHECK (progress BETWEEN 0 AND 99),
  priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100),
  CHECK ((finished_at IS NULL) =
    (state IN ('pending', 'running', 'paused', 'cancelling', 'compensating')))
) STRICT;

/*file*/ INSERT INTO runs_new (rowid, run, workflow, definition, input_digest, settings, state, failure,
  created_at, finished_at, deadline, progress, priority)
  SELECT rowid, run, workflow, definition, input_digest, settings, state, failure, created_at,
  finished_at, deadline, progress, priority FROM runs;

/*file*/ DROP TABLE runs;
/*file*/ ALTER TABLE runs_new RENAME TO runs;

/*file*/ CREATE INDEX runs_created ON runs (created_at);
/*file*/ CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
/*file*/ CREATE INDEX runs_definition ON runs (definition);

/*server ALTER TABLE runs DROP CONSTRAINT runs_state_check;
ALTER TABLE runs ADD CONSTRAINT runs_state_check CHECK (state IN ('pending', 'running', 'paused',
  'cancelling', 'compensating', 'succeeded', 'partially_succeeded', 'failed', 'timed_out', 'cancelled',
  'compensation_failed'));
ALTER TABLE runs DROP CONSTRAINT runs_check;
ALTER TABLE runs ADD CONSTRAINT runs_check CHECK ((finished_at IS NULL) =
  (state IN ('pending', 'running', 'paused', 'cancelling', 'compensating')));
DROP INDEX runs_unfinished;*/
CREATE INDEX runs_unfinished ON runs (created_at)
  WHERE state IN ('pending', 'running', 'paused', 'cancelling', 'compensating');
