-- One payment for each order.
--
-- Run by the owner role with search_path = payment; the role fn_payment may read and write the rows.

CREATE TABLE payment (
    -- Also the idempotency key towards the gateway: an order is charged at most once.
    order_id    uuid PRIMARY KEY,
    -- VOIDED without an amount: the order ended before its order.created arrived, so nothing may be authorized.
    state       text NOT NULL CHECK (state IN ('AUTHORIZED', 'DECLINED', 'CAPTURED', 'VOIDED', 'REFUNDED')),
    payment_id  uuid NOT NULL,
    user_id     uuid NOT NULL,
    -- Minor units of the ISO 4217 currency; null where only the order's end is known.
    amount      bigint CHECK (amount >= 0),
    currency    text CHECK (currency ~ '^[A-Z]{3}$'),
    -- Why it was declined; null otherwise.
    reason      text,
    -- The highest order version seen: events of a lower or equal one have no effect.
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT amount_known_unless_void CHECK
        ((amount IS NULL) = (currency IS NULL) AND (amount IS NOT NULL OR state = 'VOIDED'))
)
-- Each row is updated once or twice soon after it was inserted; free space keeps that heap-only.
WITH (fillfactor = 80);
