-- Work that is offered to agents, and who holds it.
-- A migration is never edited once released; the next change is 0005.

-- One row per task that was ever offered: its present offer, and in which state that is. Lists are JSON. The brief, which
-- is long, comes last: whoever looks through many rows passes it by.
CREATE TABLE offer (
    number         INTEGER PRIMARY KEY,
    orchestration  INTEGER NOT NULL REFERENCES orchestration (number),
    task_id        TEXT NOT NULL,
    offer          INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,
    lease_seconds  REAL NOT NULL,
    skills         TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    offered_at_us  INTEGER NOT NULL,
    failed_by      TEXT NOT NULL,
    state          TEXT NOT NULL,
    opened_at_us   INTEGER NOT NULL,
    released_by    TEXT NOT NULL,
    claim_id       TEXT,
    closed_because TEXT NOT NULL,
    brief          TEXT NOT NULL,
    UNIQUE (orchestration, task_id)
);
-- What may be taken, in the order it is given out, apart for each set of skills; all that is asked stands in the index.
CREATE INDEX offer_open ON offer (skills, priority DESC, offered_at_us, number, orchestration, failed_by, released_by)
    WHERE state = 'open';
CREATE INDEX offer_avoided ON offer (priority DESC, offered_at_us, number)
    WHERE state = 'open' AND (failed_by <> '[]' OR released_by <> '[]');
CREATE INDEX offer_unclosed ON offer (orchestration) WHERE state <> 'closed';

-- `offer` is the number of the offer that is claimed; `control` the message that told of the end.
CREATE TABLE claim (
    claim_id      TEXT NOT NULL UNIQUE,
    orchestration INTEGER NOT NULL REFERENCES orchestration (number),
    task_id       TEXT NOT NULL,
    offer         INTEGER NOT NULL,
    attempt       INTEGER NOT NULL,
    worker        TEXT NOT NULL,
    state         TEXT NOT NULL,
    claimed_at_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL,
    lease_seconds REAL NOT NULL,
    has_progress  INTEGER NOT NULL,
    is_accepted   INTEGER,
    reason        TEXT NOT NULL,
    control       INTEGER,
    was_late      INTEGER NOT NULL,
    summary       TEXT NOT NULL,
    brief         TEXT NOT NULL
);
-- Sums over claims are read from it alone.
CREATE INDEX claim_by_worker ON claim (orchestration, worker, state, is_accepted);

-- When a worker claimed something last; housekeeping forgets those of long ago.
CREATE TABLE worker (
    worker        TEXT NOT NULL PRIMARY KEY,
    claimed_at_us INTEGER NOT NULL
) WITHOUT ROWID;
