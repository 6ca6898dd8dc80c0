-- The archive's rows. Every type here means the same to SQLite and PostgreSQL:
-- TEXT, BIGINT (times are milliseconds since 1970 in UTC, 0 = unknown; truth
-- values are 0 or 1) and BYTEA. Columns that end in _json hold JSON.

-- +goose Up
CREATE TABLE capture (
    id          TEXT   NOT NULL PRIMARY KEY,
    project     TEXT   NOT NULL,
    service     TEXT   NOT NULL,
    spec_json   TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    note        TEXT   NOT NULL,
    created_ms  BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL,
    pinned      BIGINT NOT NULL,
    imported    BIGINT NOT NULL
);
CREATE INDEX capture_by_service ON capture (project, service, id);
CREATE INDEX capture_by_state ON capture (state, id);

CREATE TABLE capture_target (
    capture_id      TEXT   NOT NULL REFERENCES capture (id) ON DELETE CASCADE,
    instance_id     TEXT   NOT NULL,
    position        BIGINT NOT NULL,
    instance_json   TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    window_start_ms BIGINT NOT NULL,
    window_end_ms   BIGINT NOT NULL,
    stopped_early   BIGINT NOT NULL,
    losses_json     TEXT   NOT NULL,
    PRIMARY KEY (capture_id, instance_id)
);
CREATE INDEX capture_target_by_instance ON capture_target (instance_id, capture_id);

CREATE TABLE artifact (
    capture_id      TEXT   NOT NULL,
    instance_id     TEXT   NOT NULL,
    name            TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    phase           TEXT   NOT NULL,
    taken_ms        BIGINT NOT NULL,
    window_start_ms BIGINT NOT NULL,
    window_end_ms   BIGINT NOT NULL,
    size_bytes      BIGINT NOT NULL,
    sha256          TEXT   NOT NULL,
    losses_json     TEXT   NOT NULL,
    partial         BIGINT NOT NULL,
    derived         BIGINT NOT NULL,
    state           TEXT   NOT NULL,
    PRIMARY KEY (capture_id, instance_id, name),
    FOREIGN KEY (capture_id, instance_id) REFERENCES capture_target (capture_id, instance_id) ON DELETE CASCADE
);

CREATE TABLE instance (
    id            TEXT   NOT NULL PRIMARY KEY,
    last_seen_ms  BIGINT NOT NULL,
    instance_json TEXT   NOT NULL
);
CREATE INDEX instance_by_last_seen ON instance (last_seen_ms);

-- History gives an instance a small number, because its points name it often.
CREATE TABLE history_instance (
    num     BIGINT NOT NULL PRIMARY KEY,
    id      TEXT   NOT NULL UNIQUE,
    seen_ms BIGINT NOT NULL
);

-- Fresh points: one row holds what one call appended for the instances of one
-- bucket (num modulo the number of buckets).
CREATE TABLE history_tail (
    step_ms  BIGINT NOT NULL,
    bucket   BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    points   BYTEA  NOT NULL,
    PRIMARY KEY (step_ms, bucket, seq)
);

-- Older points: one row holds a stretch of one instance.
CREATE TABLE history_block (
    step_ms  BIGINT NOT NULL,
    num      BIGINT NOT NULL,
    first_ms BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    last_ms  BIGINT NOT NULL,
    points   BYTEA  NOT NULL,
    PRIMARY KEY (step_ms, num, first_ms, seq)
);
CREATE INDEX history_block_by_age ON history_block (step_ms, last_ms);

-- The resolutions there are. Points from before before_ms are deleted, even
-- where their row still holds them.
CREATE TABLE history_step (
    step_ms   BIGINT NOT NULL PRIMARY KEY,
    before_ms BIGINT NOT NULL
);

-- +goose Down
DROP TABLE history_step;
DROP TABLE history_block;
DROP TABLE history_tail;
DROP TABLE history_instance;
DROP TABLE instance;
DROP TABLE artifact;
DROP TABLE capture_target;
DROP TABLE capture;
