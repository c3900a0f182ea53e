-- Orders, their history, and the price of each product.
--
-- Run by the owner role with search_path = orders; the role fn_order may read and write the rows. The table
-- outgoing_event, which takes the events from HTTP, is made by the host.

-- What one piece costs. The price that binds is the one copied to the order (docs/decisions/0001-catalogue.md).
CREATE TABLE price (
    sku         text COLLATE "C" PRIMARY KEY CHECK (length(sku) BETWEEN 1 AND 64),
    -- Minor units (cents) of the ISO 4217 currency.
    amount      bigint NOT NULL CHECK (amount >= 0),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$')
);

CREATE TABLE orders (
    -- UUIDv7: sorts by time of ordering, which is what the list of a user's orders is paged by.
    id              uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    status          text NOT NULL
        CHECK (status IN ('PENDING', 'CONFIRMED', 'REJECTED', 'PAYMENT_FAILED', 'CANCELLED')),
    -- Raised with every change of status and carried by the order's events, which may arrive out of order.
    version         bigint NOT NULL,
    -- What was heard while PENDING. Both make the order CONFIRMED.
    reserved        boolean NOT NULL DEFAULT false,
    authorized      boolean NOT NULL DEFAULT false,
    -- [{sku, quantity, unit_price}]: written once, read whole, never searched, so not a table of their own.
    items           jsonb NOT NULL,
    -- Minor units.
    total           bigint NOT NULL CHECK (total >= 0),
    currency        text NOT NULL,
    -- Why it was rejected, not paid or cancelled; null otherwise.
    reason          text,
    -- The client's name for this request and SHA-256 of what it asked for; both null without a key. Kept for good.
    idempotency_key text,
    body_hash       bytea,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((idempotency_key IS NULL) = (body_hash IS NULL))
)
-- Each row is updated a few times soon after it was inserted. Free space in its page keeps that a heap-only update,
-- which touches no index: no indexed column ever changes. With half a page free every update is one, measured over
-- batches of 500; with 30% free, two in five were not.
WITH (fillfactor = 50);

CREATE INDEX orders_of_user ON orders (user_id, id DESC);

-- Partial, so that orders without a key cost nothing here.
CREATE UNIQUE INDEX orders_idempotency ON orders (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- The history of an order, one row for each thing that happened to it.
--
-- An event happens to an order once, so the key also absorbs a repetition. No foreign key: its check would lock the
-- order's row once more for every entry.
CREATE TABLE timeline (
    order_id    uuid NOT NULL,
    -- The CloudEvents type.
    event       text NOT NULL,
    -- The order's status from here on; null where it stays.
    status      text,
    -- A reason, for people.
    detail      text,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Breaks ties of the clock.
    place       bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (order_id, event)
);
