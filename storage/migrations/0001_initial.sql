-- Plans, orchestrations, their journals, task rows and outputs.
-- A migration is never edited once released; the next change is 0002.

-- Documents and large outputs, each stored once under the SHA-256 of its bytes.
CREATE TABLE artifact (
    sha256  TEXT NOT NULL UNIQUE,
    content BLOB NOT NULL
);

-- The highest number given to each speaking id; numbers are never given twice.
CREATE TABLE id_counter (
    kind    TEXT NOT NULL,
    base_id TEXT NOT NULL,
    last    INTEGER NOT NULL,
    PRIMARY KEY (kind, base_id)
) WITHOUT ROWID;

CREATE TABLE plan (
    plan_id         TEXT NOT NULL UNIQUE,
    revision        INTEGER NOT NULL,
    goal            TEXT NOT NULL,
    mode            TEXT,
    context         TEXT NOT NULL,
    dag_sha256      TEXT NOT NULL REFERENCES artifact (sha256),
    planner         TEXT NOT NULL,
    thoughts        TEXT NOT NULL,
    thinking_server TEXT NOT NULL,
    notes           TEXT NOT NULL,
    created_at_us   INTEGER NOT NULL
);

-- `number` stands for the orchestration in the tables below: short keys, and the order of creation.
CREATE TABLE orchestration (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    orchestration_id TEXT NOT NULL UNIQUE,
    key              TEXT UNIQUE,
    request_sha256   TEXT NOT NULL,
    goal             TEXT NOT NULL,
    mode             TEXT NOT NULL,
    dag_id           TEXT NOT NULL,
    dag_sha256       TEXT NOT NULL REFERENCES artifact (sha256),
    plan_id          TEXT,
    created_at_us    INTEGER NOT NULL,
    updated_at_us    INTEGER NOT NULL,
    last_seq         INTEGER NOT NULL,
    holder           TEXT,
    token            INTEGER NOT NULL,
    state            TEXT NOT NULL,
    summary          TEXT NOT NULL
);
CREATE INDEX orchestration_by_state ON orchestration (state);

CREATE TABLE journal (
    orchestration INTEGER NOT NULL REFERENCES orchestration (number),
    seq           INTEGER NOT NULL,
    at_us         INTEGER NOT NULL,
    event         TEXT NOT NULL,
    PRIMARY KEY (orchestration, seq)
) WITHOUT ROWID;

-- Rows lie in the order in which tasks were added, which is about the order in which they run: tasks that
-- complete together share pages. A small output is `output`, a large one the artifact that `output_artifact` names;
-- both come last, so that reading many rows passes them by.
CREATE TABLE task (
    number           INTEGER PRIMARY KEY,
    orchestration    INTEGER NOT NULL REFERENCES orchestration (number),
    task_id          TEXT NOT NULL,
    position         INTEGER NOT NULL,
    status           TEXT NOT NULL,
    attempt          INTEGER NOT NULL,
    system           TEXT,
    started_at_us    INTEGER,
    finished_at_us   INTEGER,
    duration_seconds REAL NOT NULL,
    error            TEXT,
    output_sha256    TEXT,
    output_bytes     INTEGER,
    note             TEXT,
    output_artifact  TEXT REFERENCES artifact (sha256),
    output           BLOB,
    UNIQUE (orchestration, task_id)
);
CREATE INDEX task_by_position ON task (orchestration, position);
