-- Schema of the submission ledger, version 3.
--
-- A new ledger is made from this file: the section "tables" on both databases, every section "schema N", then the
-- section named after the database, and on PostgreSQL the section "roles", which schema 3 added. Rows are only ever added; a correction is a new row. Times are UTC texts of fixed
-- width (2026-11-24T02:11:46.123456Z), so they sort as texts. JSON is canonical: sorted keys, no spaces.
--
-- A new column is a section of its own above "sqlite", and the version in the first line. An older ledger gets the same
-- statements from `tracker ledger upgrade`, so nothing else has to be written, and a released section never changes:
--     -- section: schema 4
--     ALTER TABLE submissions ADD COLUMN hours DOUBLE PRECISION;
-- It is NULL in older rows, and a NULL there is no part of a row's hash. Other changes: tracker/ledger/migrations.py.

-- section: tables

-- Which schema this ledger has; the newest row counts.
CREATE TABLE migrations (
    version     INTEGER NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    applied_at  TEXT    NOT NULL
);

-- One row for every row below, in the order they were added. hash = SHA-256 of the canonical JSON of
-- {"seq", "kind", "previous", "row"}, where row is the other table's row without seq, and without the columns of a
-- later schema that are NULL.
CREATE TABLE chain (
    seq       INTEGER NOT NULL PRIMARY KEY CHECK (seq >= 1),
    kind      TEXT    NOT NULL CHECK (kind IN ('run', 'submission', 'score', 'note')),
    previous  TEXT    NOT NULL,
    hash      TEXT    NOT NULL UNIQUE
);

-- The record of a run as it ended; a resumed run has a row for each ending, and the newest counts.
CREATE TABLE runs (
    seq                      INTEGER NOT NULL PRIMARY KEY REFERENCES chain (seq),
    name                     TEXT    NOT NULL,
    uid                      TEXT    NOT NULL,
    kind                     TEXT    NOT NULL,
    status                   TEXT    NOT NULL,
    parent                   TEXT,
    author                   TEXT    NOT NULL,
    host                     TEXT    NOT NULL,
    created_at               TEXT    NOT NULL,
    finished_at              TEXT,
    best_epoch               INTEGER,
    summary                  TEXT    NOT NULL,
    config                   TEXT    NOT NULL,
    config_fingerprint       TEXT,
    data_fingerprint         TEXT,
    code_fingerprint         TEXT,
    weights_fingerprint      TEXT,
    predictions_fingerprint  TEXT,
    path                     TEXT    NOT NULL
);
CREATE INDEX runs_by_uid ON runs (uid, seq);
CREATE INDEX runs_by_weights ON runs (weights_fingerprint);

-- Predictions sent to the leaderboard. The same predictions cannot be sent twice: predictions_fingerprint is unique.
-- answers is the canonical prediction table, zlib and base64, so that a teammate can compare without the file; of more
-- than 30,000 numbers a sketch (sketch1:...), and the file has the rest.
-- What an imported row does not tell is NULL: run, author, time, predictions.
CREATE TABLE submissions (
    seq                      INTEGER NOT NULL PRIMARY KEY REFERENCES chain (seq),
    number                   INTEGER NOT NULL UNIQUE CHECK (number >= 1),
    run                      TEXT,
    run_uid                  TEXT,
    memo                     TEXT    NOT NULL CHECK (length(trim(memo)) > 0),
    predictions_fingerprint  TEXT    UNIQUE,
    weights_fingerprint      TEXT,
    config_fingerprint       TEXT,
    data_fingerprint         TEXT,
    code_fingerprint         TEXT,
    config                   TEXT    NOT NULL,
    sota                     INTEGER,
    config_diff              TEXT,
    best_epoch               INTEGER,
    train_loss               DOUBLE PRECISION,
    train_accuracy           DOUBLE PRECISION,
    train_f1                 DOUBLE PRECISION,
    val_loss                 DOUBLE PRECISION,
    val_accuracy             DOUBLE PRECISION,
    val_f1                   DOUBLE PRECISION,
    author                   TEXT,
    host                     TEXT,
    submitted_at             TEXT,
    file                     TEXT,
    answers                  TEXT
);
CREATE INDEX submissions_by_run ON submissions (run_uid);
CREATE INDEX submissions_by_time ON submissions (submitted_at);

-- What the leaderboard said; a corrected score is a new row, and the newest counts.
CREATE TABLE scores (
    seq         INTEGER NOT NULL PRIMARY KEY REFERENCES chain (seq),
    submission  INTEGER NOT NULL REFERENCES submissions (number),
    split       TEXT    NOT NULL CHECK (split IN ('public', 'private', 'overall')),
    metric      TEXT    NOT NULL,
    value       DOUBLE PRECISION NOT NULL,
    author      TEXT    NOT NULL,
    scored_at   TEXT    NOT NULL
);
CREATE INDEX scores_by_submission ON scores (submission, split, metric, seq);
CREATE INDEX scores_by_value ON scores (split, metric, value);

-- Remarks, and facts about a submission that are not scores: it was sent under this name elsewhere, the leaderboard
-- rejected it, private scores were revealed, it came from an imported table (text: its other columns as JSON).
CREATE TABLE notes (
    seq         INTEGER NOT NULL PRIMARY KEY REFERENCES chain (seq),
    submission  INTEGER REFERENCES submissions (number),
    run_uid     TEXT,
    kind        TEXT    NOT NULL CHECK (kind IN ('note', 'sent', 'rejected', 'revealed', 'imported')),
    text        TEXT    NOT NULL,
    author      TEXT    NOT NULL,
    noted_at    TEXT    NOT NULL
);
CREATE INDEX notes_by_submission ON notes (submission, seq);

CREATE VIEW latest_scores AS
SELECT s.submission, s.split, s.metric, s.value, s.seq
FROM scores s
WHERE s.seq = (
    SELECT max(t.seq) FROM scores t
    WHERE t.submission = s.submission AND t.split = s.split AND t.metric = s.metric
);

-- Every submission that beat all earlier ones, for each split and metric and both directions; a tie does not beat.
CREATE VIEW score_records AS
SELECT submission, split, metric, value,
       CASE WHEN before_high IS NULL OR value > before_high THEN 1 ELSE 0 END AS is_highest,
       CASE WHEN before_low IS NULL OR value < before_low THEN 1 ELSE 0 END AS is_lowest
FROM (
    SELECT submission, split, metric, value,
           max(value) OVER earlier AS before_high,
           min(value) OVER earlier AS before_low
    FROM latest_scores
    WINDOW earlier AS (
        PARTITION BY split, metric ORDER BY submission ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
) ranked;

-- section: sqlite

-- INSERT OR REPLACE deletes without firing delete triggers, so every unique key has a guard of its own.
CREATE TRIGGER migrations_no_update BEFORE UPDATE ON migrations BEGIN SELECT RAISE(ABORT, 'append-only: migrations'); END;
CREATE TRIGGER migrations_no_delete BEFORE DELETE ON migrations BEGIN SELECT RAISE(ABORT, 'append-only: migrations'); END;
CREATE TRIGGER migrations_no_replace BEFORE INSERT ON migrations
WHEN EXISTS (SELECT 1 FROM migrations WHERE version = NEW.version)
BEGIN SELECT RAISE(ABORT, 'append-only: migrations'); END;

CREATE TRIGGER chain_no_update BEFORE UPDATE ON chain BEGIN SELECT RAISE(ABORT, 'append-only: chain'); END;
CREATE TRIGGER chain_no_delete BEFORE DELETE ON chain BEGIN SELECT RAISE(ABORT, 'append-only: chain'); END;
CREATE TRIGGER chain_no_replace BEFORE INSERT ON chain
WHEN EXISTS (SELECT 1 FROM chain WHERE seq = NEW.seq) OR EXISTS (SELECT 1 FROM chain WHERE hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'append-only: chain'); END;
CREATE TRIGGER chain_no_gap BEFORE INSERT ON chain
WHEN NEW.seq <> coalesce((SELECT max(seq) FROM chain), 0) + 1
  OR NEW.previous <> coalesce((SELECT hash FROM chain ORDER BY seq DESC LIMIT 1), '')
BEGIN SELECT RAISE(ABORT, 'append-only: chain must go on from its last row'); END;

CREATE TRIGGER runs_no_update BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'append-only: runs'); END;
CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs BEGIN SELECT RAISE(ABORT, 'append-only: runs'); END;
CREATE TRIGGER runs_no_replace BEFORE INSERT ON runs
WHEN EXISTS (SELECT 1 FROM runs WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'append-only: runs'); END;

CREATE TRIGGER submissions_no_update BEFORE UPDATE ON submissions BEGIN SELECT RAISE(ABORT, 'append-only: submissions'); END;
CREATE TRIGGER submissions_no_delete BEFORE DELETE ON submissions BEGIN SELECT RAISE(ABORT, 'append-only: submissions'); END;
CREATE TRIGGER submissions_no_replace BEFORE INSERT ON submissions
WHEN EXISTS (SELECT 1 FROM submissions WHERE seq = NEW.seq)
  OR EXISTS (SELECT 1 FROM submissions WHERE number = NEW.number)
  OR EXISTS (SELECT 1 FROM submissions WHERE predictions_fingerprint = NEW.predictions_fingerprint)
BEGIN SELECT RAISE(ABORT, 'append-only: submissions'); END;

CREATE TRIGGER scores_no_update BEFORE UPDATE ON scores BEGIN SELECT RAISE(ABORT, 'append-only: scores'); END;
CREATE TRIGGER scores_no_delete BEFORE DELETE ON scores BEGIN SELECT RAISE(ABORT, 'append-only: scores'); END;
CREATE TRIGGER scores_no_replace BEFORE INSERT ON scores
WHEN EXISTS (SELECT 1 FROM scores WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'append-only: scores'); END;

CREATE TRIGGER notes_no_update BEFORE UPDATE ON notes BEGIN SELECT RAISE(ABORT, 'append-only: notes'); END;
CREATE TRIGGER notes_no_delete BEFORE DELETE ON notes BEGIN SELECT RAISE(ABORT, 'append-only: notes'); END;
CREATE TRIGGER notes_no_replace BEFORE INSERT ON notes
WHEN EXISTS (SELECT 1 FROM notes WHERE seq = NEW.seq)
BEGIN SELECT RAISE(ABORT, 'append-only: notes'); END;

-- section: postgresql

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only: %', TG_TABLE_NAME USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq <> coalesce((SELECT max(seq) FROM chain), 0) + 1
       OR NEW.previous <> coalesce((SELECT hash FROM chain ORDER BY seq DESC LIMIT 1), '') THEN
        RAISE EXCEPTION 'append-only: chain must go on from its last row'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER chain_no_gap BEFORE INSERT ON chain FOR EACH ROW EXECUTE FUNCTION refuse_gap();
CREATE TRIGGER migrations_no_change BEFORE UPDATE OR DELETE ON migrations FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chain_no_change BEFORE UPDATE OR DELETE ON chain FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER runs_no_change BEFORE UPDATE OR DELETE ON runs FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER submissions_no_change BEFORE UPDATE OR DELETE ON submissions FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER scores_no_change BEFORE UPDATE OR DELETE ON scores FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER notes_no_change BEFORE UPDATE OR DELETE ON notes FOR EACH ROW EXECUTE FUNCTION refuse_change();
-- TRUNCATE passes row triggers.
CREATE TRIGGER migrations_no_truncate BEFORE TRUNCATE ON migrations EXECUTE FUNCTION refuse_change();
CREATE TRIGGER chain_no_truncate BEFORE TRUNCATE ON chain EXECUTE FUNCTION refuse_change();
CREATE TRIGGER runs_no_truncate BEFORE TRUNCATE ON runs EXECUTE FUNCTION refuse_change();
CREATE TRIGGER submissions_no_truncate BEFORE TRUNCATE ON submissions EXECUTE FUNCTION refuse_change();
CREATE TRIGGER scores_no_truncate BEFORE TRUNCATE ON scores EXECUTE FUNCTION refuse_change();
CREATE TRIGGER notes_no_truncate BEFORE TRUNCATE ON notes EXECUTE FUNCTION refuse_change();

-- section: roles

-- The part of the owner's tracker.toml that the whole team has, for `tracker join`; the newest version counts.
CREATE TABLE shared_settings (
    version    INTEGER NOT NULL PRIMARY KEY CHECK (version >= 1),
    text       TEXT    NOT NULL,
    sha256     TEXT    NOT NULL,
    author     TEXT    NOT NULL,
    shared_at  TEXT    NOT NULL
);
CREATE TRIGGER shared_settings_no_change BEFORE UPDATE OR DELETE ON shared_settings FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER shared_settings_no_truncate BEFORE TRUNCATE ON shared_settings EXECUTE FUNCTION refuse_change();

-- Who is not the owner reads all rows and adds rows to five tables, whatever else was granted: a row that no policy
-- allows cannot be changed or deleted. Who may read and add at all is decided by `tracker ledger grant`.
ALTER TABLE migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE chain ENABLE ROW LEVEL SECURITY;
ALTER TABLE runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE submissions ENABLE ROW LEVEL SECURITY;
ALTER TABLE scores ENABLE ROW LEVEL SECURITY;
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
ALTER TABLE shared_settings ENABLE ROW LEVEL SECURITY;
CREATE POLICY migrations_read ON migrations FOR SELECT USING (true);
CREATE POLICY chain_read ON chain FOR SELECT USING (true);
CREATE POLICY runs_read ON runs FOR SELECT USING (true);
CREATE POLICY submissions_read ON submissions FOR SELECT USING (true);
CREATE POLICY scores_read ON scores FOR SELECT USING (true);
CREATE POLICY notes_read ON notes FOR SELECT USING (true);
CREATE POLICY shared_settings_read ON shared_settings FOR SELECT USING (true);
CREATE POLICY chain_add ON chain FOR INSERT WITH CHECK (true);
CREATE POLICY runs_add ON runs FOR INSERT WITH CHECK (true);
CREATE POLICY submissions_add ON submissions FOR INSERT WITH CHECK (true);
CREATE POLICY scores_add ON scores FOR INSERT WITH CHECK (true);
CREATE POLICY notes_add ON notes FOR INSERT WITH CHECK (true);
