-- Refunds of a part.

-- What of the captured money went back, in minor units. The check is the last guard against giving back more than was
-- taken: a statement that would break it fails and its batch is rolled back.
ALTER TABLE payment ADD COLUMN refunded bigint NOT NULL DEFAULT 0;
UPDATE payment SET refunded = amount WHERE state = 'REFUNDED';
ALTER TABLE payment ADD CONSTRAINT refunded_within_amount
    CHECK (refunded >= 0 AND (refunded = 0 OR refunded <= amount AND state IN ('CAPTURED', 'REFUNDED')));
