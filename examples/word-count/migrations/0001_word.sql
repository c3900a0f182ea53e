-- Each word in lower case, and how often it was seen.
CREATE TABLE word (
    word text PRIMARY KEY,
    count bigint NOT NULL
);
