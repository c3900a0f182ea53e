-- No key and no constraint refuses a second dispatch of a record: whether there is one is what these tables are for.

-- Records counted so far; one row.
CREATE TABLE counter (
    n bigint NOT NULL,
    receipts bigint NOT NULL
);
INSERT INTO counter (n, receipts) VALUES (0, 0);

-- A row for each record.
CREATE TABLE entry (
    -- In the order of the commits within a partition, since one owner at a time inserts.
    id bigserial,
    -- Stream and number of the message; null where no host of the deployment numbered it.
    stream text,
    seq bigint,
    -- The suite's own mark of a record that it produced itself.
    mark text,
    key text,
    -- What the emitted message carries: different each time the record is dispatched.
    nonce uuid NOT NULL DEFAULT gen_random_uuid()
);

-- A row for each message about an entry.
CREATE TABLE receipt (
    id bigserial,
    nonce uuid NOT NULL
);
