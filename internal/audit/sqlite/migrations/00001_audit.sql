-- The rows of the record. What is searched for is computed from the body, so
-- that there is no second copy of it which could say something else.

-- +goose Up
CREATE TABLE audit_row (
    seq       INTEGER PRIMARY KEY,
    body      TEXT NOT NULL,
    hash      TEXT NOT NULL,
    kind      TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.kind') END) VIRTUAL,
    action_id TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.id') END) VIRTUAL,
    at        TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.at') END) VIRTUAL,
    actor     TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.actor') END) VIRTUAL,
    verb      TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.action') END) VIRTUAL,
    subject   TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.subject') END) VIRTUAL,
    project   TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.project') END) VIRTUAL,
    service   TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.service') END) VIRTUAL,
    mutating  INTEGER GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.mutating') END) VIRTUAL,
    idem_key  TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.intent.key') END) VIRTUAL,
    result    TEXT    GENERATED ALWAYS AS (CASE WHEN json_valid(body) THEN json_extract(body, '$.outcome.result') END) VIRTUAL
);
CREATE INDEX audit_row_action ON audit_row (action_id, seq);
CREATE INDEX audit_row_intent ON audit_row (seq) WHERE kind = 'intent';
CREATE INDEX audit_row_key ON audit_row (actor, idem_key) WHERE kind = 'intent' AND idem_key IS NOT NULL;

CREATE TABLE audit_secret (secret BLOB NOT NULL);

-- +goose Down
DROP TABLE audit_row;
DROP TABLE audit_secret;
