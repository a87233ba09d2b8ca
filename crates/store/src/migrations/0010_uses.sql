-- What jobs need: instances of services that must admit before a job is claimed.

-- Of a shared service the key is empty. What is used is declared with the job, and goes with it.
CREATE TABLE uses (
  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
  service TEXT NOT NULL,
  key TEXT NOT NULL,
  PRIMARY KEY (job, service, key)
) STRICT, WITHOUT ROWID;
