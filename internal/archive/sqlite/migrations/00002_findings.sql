-- What the rules said of a capture, in each language, as it is served.

-- +goose Up
CREATE TABLE findings (
    capture_id TEXT   NOT NULL REFERENCES capture (id) ON DELETE CASCADE,
    lang       TEXT   NOT NULL,
    rules      TEXT   NOT NULL,
    made_ms    BIGINT NOT NULL,
    body       BYTEA  NOT NULL,
    PRIMARY KEY (capture_id, lang)
);

-- +goose Down
DROP TABLE findings;
