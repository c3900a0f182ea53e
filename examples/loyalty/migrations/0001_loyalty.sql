CREATE TABLE loyalty (
    user_id uuid PRIMARY KEY,
    orders bigint NOT NULL
);
