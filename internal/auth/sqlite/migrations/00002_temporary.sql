-- A password that somebody else made is good for choosing one's own.

-- +goose Up
ALTER TABLE access_user ADD COLUMN temporary BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE access_user DROP COLUMN temporary;
