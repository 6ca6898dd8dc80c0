-- Who may come in. Secrets are here as hashes only. Times are milliseconds.

-- +goose Up
CREATE TABLE access_user (
    name       TEXT PRIMARY KEY,
    hash       TEXT NOT NULL,
    disabled   BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    last_login BIGINT NOT NULL
);
CREATE TABLE access_binding (
    holder TEXT NOT NULL,
    role   TEXT NOT NULL,
    scope  TEXT NOT NULL,
    PRIMARY KEY (holder, role, scope)
);
CREATE TABLE access_session (
    hash       TEXT PRIMARY KEY,
    holder     TEXT NOT NULL,
    groups     TEXT NOT NULL,
    created    BIGINT NOT NULL,
    seen       BIGINT NOT NULL,
    address    TEXT NOT NULL,
    user_agent TEXT NOT NULL
);
CREATE INDEX access_session_holder ON access_session (holder, created);
CREATE TABLE access_token (
    id      TEXT PRIMARY KEY,
    hash    TEXT NOT NULL UNIQUE,
    name    TEXT NOT NULL,
    owner   TEXT NOT NULL,
    groups  TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used    BIGINT NOT NULL,
    revoked BIGINT NOT NULL
);
-- What waits for the record.
CREATE TABLE access_event (
    id   INTEGER PRIMARY KEY,
    body TEXT NOT NULL
);
CREATE TABLE access_secret (secret BLOB NOT NULL);

-- +goose Down
DROP TABLE access_user;
DROP TABLE access_binding;
DROP TABLE access_session;
DROP TABLE access_token;
DROP TABLE access_event;
DROP TABLE access_secret;
