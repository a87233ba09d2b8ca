-- Services: which life an instance is in, who keeps it, and who holds it.

-- One row for each instance that was ever started; of a shared service the key is empty. Whoever changes it names the
-- life and the keeper that it found there. The number of acquisitions makes a hold and an orderly stop meet here.
CREATE TABLE services (
  service TEXT NOT NULL,
  key TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('stopped', 'starting', 'ready', 'degraded', 'draining', 'crashed', 'failed')),
  epoch INTEGER NOT NULL CHECK (epoch >= 0),
  instance TEXT,
  since INTEGER NOT NULL,
  breaker_open_until INTEGER,
  cause TEXT,
  node TEXT NOT NULL,
  incarnation INTEGER NOT NULL,
  acquired INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (service, key)
) STRICT, WITHOUT ROWID;

-- A hold is of an attempt, of a job, or of a process: it lives as long as that does, and goes with its end.
CREATE TABLE holds (
  service TEXT NOT NULL,
  key TEXT NOT NULL,
  holder TEXT NOT NULL,
  job INTEGER REFERENCES jobs (id) ON DELETE CASCADE,
  attempt INTEGER,
  node TEXT,
  incarnation INTEGER,
  since INTEGER NOT NULL,
  PRIMARY KEY (service, key, holder),
  CHECK ((job IS NULL) <> (node IS NULL)),
  CHECK ((node IS NULL) = (incarnation IS NULL)),
  CHECK (attempt IS NULL OR job IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX holds_of_job ON holds (job) WHERE job IS NOT NULL;
