-- Refunds, the end of orders that wait for too long, and what the list is filtered by.

ALTER TABLE orders DROP CONSTRAINT orders_status_check;
ALTER TABLE orders ADD CONSTRAINT orders_status_check
    CHECK (status IN ('PENDING', 'CONFIRMED', 'REJECTED', 'PAYMENT_FAILED', 'CANCELLED', 'EXPIRED'));

ALTER TABLE orders
    -- What is to have gone back to the customer in all, in minor units.
    ADD COLUMN refunded bigint NOT NULL DEFAULT 0,
    -- {sku: pieces} of what it went back for.
    ADD COLUMN refunded_lines jsonb NOT NULL DEFAULT '{}',
    -- The last guard against giving back more than was paid.
    ADD CONSTRAINT orders_refunded_within_total CHECK (refunded BETWEEN 0 AND total);

-- Orders that may have waited for too long are looked for by time. It never changes, so updates stay heap-only.
CREATE INDEX orders_by_time ON orders (created_at);

-- One refund that was asked for.
CREATE TABLE refund (
    order_id        uuid NOT NULL,
    -- The order's, from this refund on.
    version         bigint NOT NULL,
    -- Minor units of the order's currency.
    amount          bigint NOT NULL CHECK (amount >= 0),
    -- [{sku, quantity}] that it is for.
    lines           jsonb NOT NULL,
    -- For the customer; null where none was given.
    reason          text,
    -- The customer, or the admin who did it for them.
    requested_by    uuid NOT NULL,
    -- As in orders: a request that is sent again refunds once.
    idempotency_key text,
    body_hash       bytea,
    requested_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (order_id, version),
    CHECK ((idempotency_key IS NULL) = (body_hash IS NULL))
);

CREATE UNIQUE INDEX refund_idempotency ON refund (order_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

COMMENT ON COLUMN timeline.event IS
    'The CloudEvents type; of what can happen to an order more than once, also # and what tells it from the others.';

-- Up to where orders that waited for too long were looked for: before it, none is PENDING. One row.
CREATE TABLE expiry (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    done_until  timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO expiry DEFAULT VALUES;
