-- What comes first: of runs that wait, and of the jobs of a run.

ALTER TABLE runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
-- Added to that of its run.
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);

-- Jobs of one priority are claimed in the order of an index; there are few priorities.
DROP INDEX jobs_ready;
CREATE INDEX jobs_ready ON jobs (run, priority, run_after, id) WHERE state = 'ready';
DROP INDEX jobs_ready_of_stage;
CREATE INDEX jobs_ready_of_stage ON jobs (run, stage, priority, run_after, id)
  WHERE state = 'ready' AND kind = 'activity' AND parent = '';
