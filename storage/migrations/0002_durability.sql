-- Heartbeats and requests between processes, results used again, and what keeps the file from growing for ever.
-- A migration is never edited once released; the next change is 0003.

-- Who drives, by the instance that an orchestration's holder names. A driver counts its heartbeats here; a count that
-- stands still tells others that it has lost what it drove.
CREATE TABLE driver (
    instance      TEXT NOT NULL PRIMARY KEY,
    identity      TEXT NOT NULL,
    beats         INTEGER NOT NULL,
    lease_seconds REAL NOT NULL,
    beat_at_us    INTEGER NOT NULL
) WITHOUT ROWID;

-- `holder_instance` is part of `holder`, to be joined with; `finished_at_us` is set while the state is one that ends;
-- the journal is compressed up to `archived_seq`.
ALTER TABLE orchestration ADD COLUMN holder_instance TEXT;
ALTER TABLE orchestration ADD COLUMN needs TEXT NOT NULL DEFAULT '{}';
ALTER TABLE orchestration ADD COLUMN finished_at_us INTEGER;
ALTER TABLE orchestration ADD COLUMN archived_seq INTEGER NOT NULL DEFAULT 0;
-- Whoever died right after an orchestration had ended never gave its lease back.
UPDATE orchestration SET holder = NULL WHERE state IN ('completed', 'failed', 'cancelled');
UPDATE orchestration SET holder_instance = json_extract(holder, '$.instance') WHERE json_valid(holder);
UPDATE orchestration SET finished_at_us =
    coalesce(CASE WHEN json_valid(summary) THEN json_extract(summary, '$.finished_at_us') END, updated_at_us)
    WHERE state IN ('completed', 'failed', 'cancelled');
CREATE INDEX orchestration_by_holder ON orchestration (holder_instance, orchestration_id, token)
    WHERE holder_instance IS NOT NULL;
CREATE INDEX orchestration_by_end ON orchestration (finished_at_us) WHERE finished_at_us IS NOT NULL;
CREATE INDEX orchestration_to_archive ON orchestration (finished_at_us)
    WHERE finished_at_us IS NOT NULL AND archived_seq < last_seq;

-- The oldest part of a journal, up to a thousand entries a row: zlib over lines of `at_us event`.
CREATE TABLE journal_archive (
    orchestration INTEGER NOT NULL REFERENCES orchestration (number),
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    events        BLOB NOT NULL,
    UNIQUE (orchestration, last_seq)
);

-- Requests to whoever drives an orchestration, and what became of them.
CREATE TABLE control (
    number         INTEGER PRIMARY KEY AUTOINCREMENT,
    orchestration  INTEGER NOT NULL REFERENCES orchestration (number),
    request        TEXT NOT NULL,
    sent_at_us     INTEGER NOT NULL,
    answered_at_us INTEGER,
    answer         TEXT
);
CREATE INDEX control_unanswered ON control (number) WHERE answered_at_us IS NULL;
CREATE INDEX control_answered ON control (answered_at_us) WHERE answered_at_us IS NOT NULL;
CREATE INDEX control_by_orchestration ON control (orchestration);

-- Outputs that equal tasks may use again; kept like a task's, small ones in the row. The source is named in words,
-- because it may be removed before its output is.
CREATE TABLE cache (
    key                  TEXT NOT NULL UNIQUE,
    source_orchestration TEXT NOT NULL,
    source_task          TEXT NOT NULL,
    stored_at_us         INTEGER NOT NULL,
    expires_at_us        INTEGER NOT NULL,
    output_sha256        TEXT NOT NULL,
    output_artifact      TEXT REFERENCES artifact (sha256),
    output               BLOB
);
CREATE INDEX cache_by_expiry ON cache (expires_at_us);

-- Who names an artifact, and which plans are named and how old they are.
CREATE INDEX cache_by_artifact ON cache (output_artifact) WHERE output_artifact IS NOT NULL;
CREATE INDEX task_by_artifact ON task (output_artifact) WHERE output_artifact IS NOT NULL;
CREATE INDEX orchestration_by_dag ON orchestration (dag_sha256);
CREATE INDEX orchestration_by_plan ON orchestration (plan_id) WHERE plan_id IS NOT NULL;
CREATE INDEX plan_by_dag ON plan (dag_sha256);
CREATE INDEX plan_by_age ON plan (created_at_us);

-- Artifacts that something has ceased to name; housekeeping removes those that nothing else names.
CREATE TABLE loose_artifact (sha256 TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
CREATE TRIGGER task_replaced AFTER UPDATE OF output_artifact ON task
WHEN old.output_artifact IS NOT NULL AND old.output_artifact IS NOT new.output_artifact BEGIN
    INSERT INTO loose_artifact VALUES (old.output_artifact) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER task_removed AFTER DELETE ON task WHEN old.output_artifact IS NOT NULL BEGIN
    INSERT INTO loose_artifact VALUES (old.output_artifact) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER cache_replaced AFTER UPDATE OF output_artifact ON cache
WHEN old.output_artifact IS NOT NULL AND old.output_artifact IS NOT new.output_artifact BEGIN
    INSERT INTO loose_artifact VALUES (old.output_artifact) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER cache_removed AFTER DELETE ON cache WHEN old.output_artifact IS NOT NULL BEGIN
    INSERT INTO loose_artifact VALUES (old.output_artifact) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER orchestration_removed AFTER DELETE ON orchestration BEGIN
    INSERT INTO loose_artifact VALUES (old.dag_sha256) ON CONFLICT DO NOTHING;
END;
CREATE TRIGGER plan_removed AFTER DELETE ON plan BEGIN
    INSERT INTO loose_artifact VALUES (old.dag_sha256) ON CONFLICT DO NOTHING;
END;

-- Outputs that were replaced before anybody kept account of it.
INSERT INTO loose_artifact
    SELECT sha256 FROM artifact
    WHERE NOT EXISTS (SELECT 1 FROM task WHERE output_artifact = sha256)
      AND NOT EXISTS (SELECT 1 FROM orchestration WHERE dag_sha256 = sha256)
      AND NOT EXISTS (SELECT 1 FROM plan WHERE plan.dag_sha256 = sha256);
