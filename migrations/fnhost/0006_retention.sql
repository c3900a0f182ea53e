-- What nobody needs any more is removed, by one host at a time.

-- When that is due again. The host that moves the time on does it.
CREATE TABLE upkeep (
    deployment text PRIMARY KEY,
    next_at    timestamptz NOT NULL
);

-- The number that was found the last time it was looked at, and since when it has been this one: a stream whose number does not
-- rise for long has ended. Noted by the upkeep and not by the store, which has no time for it.
ALTER TABLE watermark ADD COLUMN noted_seq bigint;
ALTER TABLE watermark ADD COLUMN noted_at timestamptz;

REVOKE ALL ON upkeep FROM PUBLIC;
