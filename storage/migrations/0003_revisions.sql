-- Revisions of plans and of what runs, tasks inside tasks, and what tasks of each kind took.
-- A migration is never edited once released; the next change is 0004.

-- Every revision of a plan, the present one included, which `plan` names as before.
CREATE TABLE plan_revision (
    plan_id    TEXT NOT NULL REFERENCES plan (plan_id),
    revision   INTEGER NOT NULL,
    dag_sha256 TEXT NOT NULL REFERENCES artifact (sha256),
    made_by    TEXT NOT NULL,
    reason     TEXT NOT NULL,
    told       TEXT NOT NULL,
    at_us      INTEGER NOT NULL,
    undoes     INTEGER,
    PRIMARY KEY (plan_id, revision)
) WITHOUT ROWID;
CREATE INDEX plan_revision_by_dag ON plan_revision (dag_sha256);
CREATE TRIGGER plan_revision_removed AFTER DELETE ON plan_revision BEGIN
    INSERT INTO loose_artifact VALUES (old.dag_sha256) ON CONFLICT DO NOTHING;
END;
INSERT INTO plan_revision
    SELECT plan_id, revision, dag_sha256, planner, '', 'what it began with', created_at_us, NULL FROM plan;

-- The age of a plan counts from its latest revision.
ALTER TABLE plan ADD COLUMN revised_at_us INTEGER NOT NULL DEFAULT 0;
UPDATE plan SET revised_at_us = created_at_us;
DROP INDEX plan_by_age;
CREATE INDEX plan_by_revision ON plan (revised_at_us);

-- The revisions after the first of what runs, beside the events that made them: no reader goes through a journal.
CREATE TABLE orchestration_revision (
    orchestration INTEGER NOT NULL REFERENCES orchestration (number),
    revision      INTEGER NOT NULL,
    seq           INTEGER,
    made_by       TEXT NOT NULL,
    reason        TEXT NOT NULL,
    told          TEXT NOT NULL,
    at_us         INTEGER NOT NULL,
    undoes        INTEGER,
    PRIMARY KEY (orchestration, revision)
) WITHOUT ROWID;
-- Those of before, alternatives of the planner all of them, from the journals that have some, compressed or not.
INSERT OR IGNORE INTO orchestration_revision
    WITH revised AS (
        SELECT number FROM orchestration
        WHERE CASE WHEN json_valid(summary) THEN json_extract(summary, '$.revision') > 1 END
    ), entry AS (
        SELECT orchestration, seq, at_us, event FROM journal
        WHERE orchestration IN (SELECT number FROM revised)
        UNION ALL
        SELECT orchestration, json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]')
        FROM journal_archive, json_each(archived_revisions(first_seq, last_seq, events))
        WHERE orchestration IN (SELECT number FROM revised)
    )
    SELECT orchestration, json_extract(event, '$.revision'), seq, 'planner', json_extract(event, '$.reason'),
        'replaced ' || json_extract(event, '$.task_id') || ' by '
            || (SELECT group_concat(task_id, ', ')
                FROM (SELECT json_extract(value, '$.task_id') AS task_id FROM json_each(event, '$.tasks') LIMIT 5))
            || CASE WHEN json_array_length(event, '$.tasks') > 5
                THEN ' and ' || (json_array_length(event, '$.tasks') - 5) || ' more' ELSE '' END,
        at_us, NULL
    FROM entry
    WHERE CASE WHEN json_valid(event) THEN json_extract(event, '$.type') = 'plan_revised' END;

-- What a task runs, and the task it is a part of; a composite's work is done by its parts.
ALTER TABLE task ADD COLUMN tool TEXT;
ALTER TABLE task ADD COLUMN parent TEXT;
ALTER TABLE task ADD COLUMN is_composite INTEGER NOT NULL DEFAULT 0;

-- What the tasks took that attempts have completed: a list of [system, tool (empty: none), tasks, seconds, tasks with a
-- cost, cost]. Earlier tasks don't say what they ran, and are not counted.
ALTER TABLE orchestration ADD COLUMN took TEXT;
