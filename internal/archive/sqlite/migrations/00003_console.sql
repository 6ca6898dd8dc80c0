-- What the console remembers: calls, requests kept under a name, and what
-- describes services that do not describe themselves.

-- +goose Up
CREATE TABLE console_call (
    id          TEXT    NOT NULL PRIMARY KEY,
    at_ms       BIGINT  NOT NULL,
    actor       TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    service     TEXT    NOT NULL,
    instances   TEXT    NOT NULL,
    method      TEXT    NOT NULL,
    request     TEXT    NOT NULL,
    mutating    INTEGER NOT NULL,
    code        TEXT    NOT NULL,
    message     TEXT    NOT NULL,
    duration_us BIGINT  NOT NULL,
    sent        BIGINT  NOT NULL,
    received    BIGINT  NOT NULL
);
CREATE INDEX console_call_of ON console_call (project, service, id);

CREATE TABLE console_saved (
    id      TEXT   NOT NULL PRIMARY KEY,
    name    TEXT   NOT NULL,
    at_ms   BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    project TEXT   NOT NULL,
    service TEXT   NOT NULL,
    method  TEXT   NOT NULL,
    request TEXT   NOT NULL
);

CREATE TABLE console_descriptors (
    project TEXT   NOT NULL,
    service TEXT   NOT NULL,
    name    TEXT   NOT NULL,
    at_ms   BIGINT NOT NULL,
    actor   TEXT   NOT NULL,
    body    BYTEA  NOT NULL,
    PRIMARY KEY (project, service)
);

-- +goose Down
DROP TABLE console_descriptors;
DROP TABLE console_saved;
DROP TABLE console_call;
