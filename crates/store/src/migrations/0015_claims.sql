-- What is ready is found by who may take it: children of groups, jobs of a stage, and groups, which nobody claims. Each is in one index,
-- so that none of them is looked through for the others.

DROP INDEX jobs_ready;
DROP INDEX jobs_ready_of_stage;
CREATE INDEX jobs_ready_child ON jobs (run, priority, run_after, id)
  WHERE state = 'ready' AND parent <> '' AND kind <> 'group';
CREATE INDEX jobs_ready_of_stage ON jobs (run, stage, priority, run_after, id)
  WHERE state = 'ready' AND parent = '' AND kind <> 'group';
CREATE INDEX jobs_ready_group ON jobs (run, priority, id) WHERE state = 'ready' AND kind = 'group';

-- Places are counted from what is under way, and not from all jobs of the stage.
DROP INDEX jobs_held_of_stage;
CREATE INDEX jobs_held_of_stage ON jobs (run, stage, parent)
  WHERE state IN ('leased', 'joining') AND parent = '' AND kind <> 'step';
CREATE INDEX jobs_deferred_of_run ON jobs (run, id) WHERE state = 'deferred';
-- Groups that are expanded, by their keys.
CREATE INDEX jobs_group ON jobs (run, stage, key) WHERE kind = 'group';
