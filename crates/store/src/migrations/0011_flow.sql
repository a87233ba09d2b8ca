-- How far a run in stages has come.

-- The most of this round, in per cent; NULL where nobody knows, because there is no plan.
ALTER TABLE runs ADD COLUMN progress INTEGER CHECK (progress BETWEEN 0 AND 99);
