-- What the payment gateway says it did, as its webhooks tell: for comparing its books with ours. Nothing is decided by it.
CREATE TABLE gateway_event (
    -- The idempotency key of what was done, so that a webhook that comes again changes nothing.
    id          text PRIMARY KEY,
    order_id    uuid NOT NULL,
    -- The payment at the gateway afterwards.
    status      text NOT NULL,
    -- Minor units held or taken, and what of it went back.
    amount      bigint NOT NULL,
    refunded    bigint NOT NULL,
    -- When the gateway did it, and when it said so first.
    happened_at timestamptz NOT NULL,
    told_at     timestamptz NOT NULL DEFAULT now()
);
-- For the question what was done for an order.
CREATE INDEX gateway_event_order_id ON gateway_event (order_id);
