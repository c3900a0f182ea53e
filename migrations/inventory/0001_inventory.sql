-- The catalogue with its stock, and what each order holds of it.
--
-- Run by the owner role with search_path = inventory; the role fn_inventory may read and write the rows.

-- SKUs and states are compared, sorted and locked byte by byte: collation "C" is the same in every session
-- and database, and lock order depends on it.
CREATE TABLE product (
    -- Characters that a URL path carries unescaped.
    sku         text COLLATE "C" PRIMARY KEY CHECK (sku ~ '^[A-Za-z0-9._-]{1,64}$'),
    name        text NOT NULL,
    -- Minor units (cents) of the ISO 4217 currency.
    price       bigint NOT NULL CHECK (price >= 0),
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- Units in the warehouse, those promised to orders included.
    on_hand     bigint NOT NULL CHECK (on_hand >= 0),
    -- Units promised to orders that are not yet confirmed; available = on_hand - reserved. The check is the
    -- last guard against overselling: a statement that would break it fails and its batch is rolled back.
    reserved    bigint NOT NULL DEFAULT 0,
    CONSTRAINT reserved_within_on_hand CHECK (reserved BETWEEN 0 AND on_hand)
)
-- A popular product's row is rewritten with every batch; free space in its page keeps that a heap-only
-- update, which touches no index.
WITH (fillfactor = 50);

-- What inventory knows of an order, one row for each order it has heard of.
CREATE TABLE reservation (
    order_id    uuid PRIMARY KEY,
    -- RELEASED without lines: the order ended before its order.created arrived, so nothing may be reserved.
    state       text NOT NULL CHECK (state IN ('RESERVED', 'REJECTED', 'COMMITTED', 'RELEASED')),
    -- Why it was rejected; null otherwise.
    reason      text,
    -- The highest order version seen: events of a lower or equal one have no effect.
    version     bigint NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
)
-- Each row is updated once or twice soon after it was inserted.
WITH (fillfactor = 80);

-- Units of a product that a reservation holds, held or has taken. Written once, with its reservation.
--
-- No foreign keys: the one statement that writes a line writes its reservation and has locked its product, and
-- the check of a key on every line would lock the popular product's row once more for each.
CREATE TABLE reservation_line (
    order_id    uuid NOT NULL,
    sku         text COLLATE "C" NOT NULL,
    quantity    bigint NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, sku)
);
