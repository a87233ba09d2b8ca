-- What retention needs: which runs went, and which blobs are in use.

-- The ids of removed runs stay taken, and whoever asks for one is told. While rows of it are left, it is pending.
CREATE TABLE removed (
  run TEXT NOT NULL PRIMARY KEY,
  workflow TEXT NOT NULL,
  definition TEXT NOT NULL,
  input_digest TEXT NOT NULL,
  state TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  removed_at INTEGER NOT NULL,
  pending INTEGER NOT NULL CHECK (pending IN (0, 1))
) STRICT;

CREATE INDEX removed_since ON removed (removed_at);
CREATE INDEX removed_pending ON removed (removed_at) WHERE pending = 1;

-- Blobs that a run's settings name, besides its definition.
CREATE TABLE blob_uses (
  run TEXT NOT NULL REFERENCES runs (run) ON DELETE CASCADE,
  digest TEXT NOT NULL REFERENCES blobs (digest),
  PRIMARY KEY (run, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX blob_uses_digest ON blob_uses (digest);
INSERT INTO blob_uses (run, digest) SELECT r.run, b.digest FROM runs r
  JOIN blobs b ON r.settings LIKE '%"' || b.digest || '"%';

CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX runs_definition ON runs (definition);
CREATE INDEX blobs_created ON blobs (created_at);
